//! The `podpath` command. Everything is in the library.

fn main() -> std::process::ExitCode {
    podpath::cli::main()
}
