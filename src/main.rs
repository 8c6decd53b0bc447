//! The `podpath` command. Everything is in the library.

/// Each new connection takes and gives back a few pieces of memory; among what a large cluster leaves
/// behind, glibc looks for each of them for longer than a walk's rules take.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    podpath::cli::main()
}
