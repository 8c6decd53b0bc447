//! Bob Jenkins's lookup3 over bytes, as the kernel has it (include/linux/jhash.h `jhash`).
//!
//! Pure.

/// The hash of `key` with `seed` (JHASH_INITVAL 0xdeadbeef).
pub(super) fn jhash(key: &[u8], seed: u32) -> u32 {
    let start = 0xdead_beefu32
        .wrapping_add(key.len() as u32)
        .wrapping_add(seed);
    let mut s = [start; 3];
    let mut rest = key;
    let word = |b: &[u8], at: usize| {
        let mut w = [0u8; 4];
        for (to, from) in w.iter_mut().zip(b.iter().skip(at)) {
            *to = *from;
        }
        u32::from_le_bytes(w)
    };
    while rest.len() > 12 {
        for (i, v) in s.iter_mut().enumerate() {
            *v = v.wrapping_add(word(rest, i * 4));
        }
        mix(&mut s);
        rest = rest.get(12..).unwrap_or(&[]);
    }
    if !rest.is_empty() {
        for (i, v) in s.iter_mut().enumerate() {
            *v = v.wrapping_add(word(rest, i * 4));
        }
        last(&mut s);
    }
    s[2]
}

/// `__jhash_mix`
fn mix(s: &mut [u32; 3]) {
    for (i, r) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (x, y, z) = (i % 3, (i + 2) % 3, (i + 1) % 3);
        s[x] = s[x].wrapping_sub(s[y]) ^ s[y].rotate_left(r);
        s[y] = s[y].wrapping_add(s[z]);
    }
}

/// `__jhash_final`
fn last(s: &mut [u32; 3]) {
    for (i, r) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (x, y) = ((i + 2) % 3, (i + 1) % 3);
        s[x] = (s[x] ^ s[y]).wrapping_sub(s[y].rotate_left(r));
    }
}
