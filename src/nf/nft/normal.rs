//! The kernel's form of what scripts may write in several ways.
//!
//! What nft turns into bytecode and back: dependencies that a later match implies go, single-
//! element sets become
//! values, words become flags (nftables evaluate.c, netlink_delinearize.c, payload.c
//! `payload_dependency_kill`).
//! Invariant: applying it twice changes nothing.

use super::ct_proto;
use super::dependencies::{icmp_implied, l3_implied, l4_implied, reject_implied, vlan_implied};
use super::elements::{Element, Part};
use super::expr::*;
use super::fields::{self, Base};
use super::implied::{l3_needed, l3_stated};
use super::model::{Family, Rule, Set, Table};
use super::types::{Type, Value};

/// All verdicts that a rule may give.
pub fn verdicts(rule: &Rule, f: &mut dyn FnMut(&Verdict)) {
    for s in &rule.stmts {
        match s {
            Stmt::Verdict(v) => f(v),
            Stmt::Vmap(_, Expr::Set(list)) => {
                for e in list {
                    if let Some(super::Data::Verdict(v)) = &e.data {
                        f(v);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The same for changes.
pub fn verdicts_mut(rule: &mut Rule, f: &mut dyn FnMut(&mut Verdict)) {
    for s in &mut rule.stmts {
        match s {
            Stmt::Verdict(v) => f(v),
            Stmt::Vmap(_, Expr::Set(list)) => {
                for e in list {
                    if let Some(super::Data::Verdict(v)) = &mut e.data {
                        f(v);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The sets and maps that a rule names.
pub fn sets(rule: &Rule, f: &mut dyn FnMut(&str)) {
    let mut expr = |e: &Expr| match e {
        Expr::SetRef(n) => f(n),
        Expr::Map(_, of) => {
            if let Expr::SetRef(n) = &**of {
                f(n);
            }
        }
        _ => {}
    };
    for s in &rule.stmts {
        match s {
            Stmt::Match { right, .. } => expr(right),
            Stmt::Vmap(_, of) => expr(of),
            Stmt::Set(_, v) | Stmt::Object(_, v) => expr(v),
            Stmt::Nat(n) => n.addr.iter().chain(&n.port).for_each(&mut expr),
            _ => {}
        }
    }
    for s in &rule.stmts {
        if let Stmt::SetOp(op) = s
            && op.meter.is_none()
        {
            f(&op.set);
        }
    }
}

/// Ranges of addresses that are prefixes, as prefixes (nftables segtree.c `interval_expr`).
fn prefixes(types: &[Type], e: &mut Element) {
    for (part, t) in e.key.iter_mut().zip(types) {
        if let (Part::Range(Value::Num(a), Value::Num(b)), Type::Ipv4 | Type::Ipv6) = (&*part, t) {
            *part = interval(*t, *a, *b);
        }
    }
}

/// An element as the kernel holds it: with the set's own state.
pub fn element(set: &Set, e: &mut Element) {
    // nf_tables_newsetelem keeps a timeout only if it is not the set's own.
    e.timeout = e.timeout.filter(|t| Some(*t) != set.timeout);
    prefixes(&set.key.dtypes(), e);
    for s in &set.state {
        let there = e
            .state
            .iter()
            .any(|o| core::mem::discriminant(o) == core::mem::discriminant(s));
        if !there {
            e.state.push(s.clone());
        }
    }
}

/// A rule as `nft list` shows it once the kernel has it.
pub fn rule(table: &Table, rule: &mut Rule) {
    ct_proto::unasked(table.family, rule);
    flags_joined(rule);
    for s in &mut rule.stmts {
        statement(table.family, s);
    }
    vlan_implied(table.family, rule);
    icmp_implied(rule);
    l3_needed(table.family, rule);
    l3_implied(table.family, rule);
    l4_implied(table.family, rule);
    reject_implied(table.family, rule);
    nat_family(table, rule);
}

/// `tcp flags` beside `tcp window`: nft makes one comparison of neighbouring fields, and whether any flag is
/// set becomes whether these and no others are (nftables payload.c `payload_try_merge`, `payload_do_merge`).
fn flags_joined(rule: &mut Rule) {
    let named = |s: &Stmt, name: &str| {
        matches!(s, Stmt::Match { left: Expr::Payload(f), op: RelOp::Implicit, right }
            if f.proto == "tcp" && f.name == name && matches!(right, Expr::Value(_) | Expr::Flags(_)))
    };
    // A statement that compares nothing ends a run of comparisons, of two at least.
    let (mut run, mut joined) = (Vec::new(), Vec::new());
    let mut end = |run: &mut Vec<usize>, stmts: &[Stmt]| {
        let has = |name: &str| run.iter().copied().find(|i| named(&stmts[*i], name));
        joined.extend(has("flags").filter(|_| has("window").is_some()));
        run.clear();
    };
    for (i, s) in rule.stmts.iter().enumerate() {
        match s {
            Stmt::Match {
                left: Expr::Payload(_),
                right: Expr::Value(_) | Expr::Flags(_),
                ..
            } => run.push(i),
            Stmt::Match { .. } => {}
            _ if run.len() > 1 => end(&mut run, &rule.stmts),
            _ => {}
        }
    }
    end(&mut run, &rule.stmts);
    for i in joined {
        if let Some(Stmt::Match { op, right, .. }) = rule.stmts.get_mut(i) {
            if let Expr::Flags(all) = right {
                let bits = all.iter().filter_map(Value::num).fold(0, |a, b| a | b);
                *right = Expr::Value(Value::Num(bits));
            }
            *op = RelOp::Eq;
        }
    }
}

fn statement(family: Family, s: &mut Stmt) {
    match s {
        Stmt::Match { left, op, right } => comparison(family, left, op, right),
        Stmt::Vmap(key, of) => {
            raw(family, key);
            if let Expr::Set(list) = of {
                sort_anonymous(&key.dtypes(), list);
            }
        }
        Stmt::Set(left, right) => {
            raw(family, left);
            fold(right);
            sort_map(right);
        }
        Stmt::Nat(n) => n.addr.iter_mut().chain(&mut n.port).for_each(sort_map),
        Stmt::Log(l) if l.level.as_deref() == Some("warn") => l.level = None,
        _ => {}
    }
}

/// A raw payload that is a known field of the table's own header is that field (payload.c
/// `payload_expr_complete`);
/// nft has one type of routing header with addresses.
fn raw(family: Family, e: &mut Expr) {
    if let Expr::Exthdr(f) = *e
        && f.header == "rt0"
        && let Some(sid) = fields::ext(fields::EXTHDRS, "srh", "sid[1]")
    {
        *e = Expr::Exthdr(sid);
    }
    let Expr::Raw(base, offset, bits) = *e else {
        return;
    };
    let proto = match (base, family) {
        // In netdev a field of `ether` asks for `iiftype ether` first, which bits do not.
        (Base::Link, Family::Bridge) => "ether",
        (Base::Network, Family::Ip) => "ip",
        (Base::Network, Family::Ip6) => "ip6",
        (Base::Network, Family::Arp) => "arp",
        (Base::Transport, _) => "th",
        _ => return,
    };
    let hit = fields::FIELDS
        .iter()
        .find(|f| f.proto == proto && f.offset == offset && f.bits == bits);
    if let Some(f) = hit {
        *e = Expr::Payload(f);
    }
}

/// The kernel loads whole bytes: bits of a raw payload become a mask of them (evaluate.c
/// `expr_evaluate_bits`).
fn whole_bytes(left: &mut Expr, op: &mut RelOp, right: &mut Expr) {
    let (Expr::Raw(base, offset, bits), Expr::Value(Value::Num(n))) = (&*left, &*right) else {
        return;
    };
    let (start, end) = (offset / 8 * 8, (offset + bits).div_ceil(8) * 8);
    if start == *offset && end == offset + bits || end - start > 128 {
        return;
    }
    let shift = u32::from(end - offset - bits);
    let mask = (1u128 << bits) - 1;
    let (base, n) = (*base, *n);
    let of = Box::new(Expr::Raw(base, start, end - start));
    *left = Expr::Binop(
        Op::And,
        of,
        Box::new(Expr::Value(Value::Num(mask << shift))),
    );
    *right = Expr::Value(Value::Num(n << shift));
    if *op == RelOp::Implicit {
        *op = RelOp::Eq;
    }
}

fn sort_map(e: &mut Expr) {
    if let Expr::Map(key, of) = e
        && let Expr::Set(list) = &mut **of
    {
        sort_anonymous(&key.dtypes(), list);
    }
}

fn comparison(family: Family, left: &mut Expr, op: &mut RelOp, right: &mut Expr) {
    raw(family, left);
    whole_bytes(left, op, right);
    let flags = left.dtype().is_some_and(Type::is_flags);
    if let (Expr::Set(list), RelOp::Implicit | RelOp::Eq | RelOp::Ne) = (&*right, *op)
        && let [one] = list.as_slice()
        && one.key.len() == 1
        && !one.is_any()
        && one.comment.is_none()
        && let Some(part) = one.key.first().cloned()
    {
        *right = super::parse_expr::literal(part);
    }
    if flags {
        flag_comparison(left, op, right);
    } else if *op == RelOp::Eq && !matches!(left, Expr::Binop(..)) {
        *op = RelOp::Implicit;
    }
    if matches!(left, Expr::Binop(..)) && *op == RelOp::Implicit && matches!(right, Expr::Value(_))
    {
        *op = RelOp::Eq;
    }
    mask_to_prefix(left, op, right);
    if let Expr::Flags(list) = right {
        list.sort_by_key(Value::num);
    }
    if let Expr::Set(list) = right {
        merge_anonymous(&left.dtypes(), list);
        sort_anonymous(&left.dtypes(), list);
    }
}

/// Intervals of an anonymous set that touch are one (an anonymous interval set merges of itself).
fn merge_anonymous(types: &[Type], list: &mut Vec<Element>) {
    let [t] = types else { return };
    let plain =
        |e: &Element| e.comment.is_none() && e.data.is_none() && e.state.is_empty() && !e.is_any();
    let intervals = list
        .iter()
        .any(|e| matches!(e.key.as_slice(), [Part::Range(..) | Part::Prefix(..)]));
    if t.is_text() || !intervals || !list.iter().all(plain) {
        return;
    }
    let number = |k: &[u8]| k.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
    let ends = list.iter().filter_map(|e| e.key.first()?.bounds(*t));
    let mut parts: Vec<_> = ends.map(|(a, b)| (number(&a), number(&b))).collect();
    if parts.len() < list.len() {
        return;
    }
    join(&mut parts);
    if parts.len() < list.len() {
        *list = parts
            .into_iter()
            .map(|(a, b)| Element::new([interval(*t, a, b)]))
            .collect();
    }
}

/// `& (a|b) != 0` is `a,b`; `& mask == value` is `value / mask` (netlink_delinearize.c, for bitmask types).
fn flag_comparison(left: &mut Expr, op: &mut RelOp, right: &mut Expr) {
    let Expr::Binop(Op::And, of, mask) = &*left else {
        return;
    };
    let (Expr::Value(Value::Num(mask)), Expr::Value(Value::Num(n))) = (&**mask, &*right) else {
        return;
    };
    let (mask, n, of) = (*mask, *n, (**of).clone());
    let Some(t) = of.dtype() else { return };
    match (*op, n) {
        (RelOp::Ne, 0) => {
            let mut words: Vec<_> = t
                .symbols()
                .iter()
                .filter(|s| mask & s.1 != 0)
                .map(|s| s.1)
                .collect();
            words.sort_unstable();
            let known = words.iter().fold(0, |a, b| a | b);
            *right = match words.as_slice() {
                [one] if known == mask => Expr::Value(Value::Num(*one)),
                _ if known == mask => Expr::Flags(words.into_iter().map(Value::Num).collect()),
                _ => Expr::Value(Value::Num(mask)),
            };
            *op = RelOp::Implicit;
        }
        (RelOp::Eq | RelOp::Implicit, _) if t == Type::TcpFlag => {
            *right = Expr::Masked(n, mask);
            *op = RelOp::Implicit;
        }
        (RelOp::Ne, _) if t == Type::TcpFlag => *right = Expr::Masked(n, mask),
        _ => return,
    }
    *left = of;
}

/// `ip saddr & 255.255.0.0 == 10.1.0.0` is `ip saddr 10.1.0.0/16`.
fn mask_to_prefix(left: &mut Expr, op: &mut RelOp, right: &mut Expr) {
    let Expr::Binop(Op::And, of, mask) = &*left else {
        return;
    };
    let (Expr::Value(Value::Num(mask)), Expr::Value(Value::Num(n))) = (&**mask, &*right) else {
        return;
    };
    let Some(t @ (Type::Ipv4 | Type::Ipv6)) = of.dtype() else {
        return;
    };
    let width = u32::from(t.bits());
    let ones = (*mask << (128 - width)).leading_ones();
    let whole = t.max() & !(t.max().checked_shr(ones).unwrap_or(0));
    if whole == *mask && ones > 0 && matches!(*op, RelOp::Eq | RelOp::Implicit | RelOp::Ne) {
        let (n, of) = (*n, (**of).clone());
        *right = Expr::Prefix(Value::Num(n & whole), u8::try_from(ones).unwrap_or(u8::MAX));
        if *op == RelOp::Eq {
            *op = RelOp::Implicit;
        }
        *left = of;
    }
}

fn sort_anonymous(types: &[Type], list: &mut [Element]) {
    list.iter_mut().for_each(|e| prefixes(types, e));
    list.sort_by_cached_key(|e| super::elements::sort_key(types, e));
}

/// `(mark & a) | b` where b's bits are not cleared by a: the kernel holds one operation, `& (a | b)
/// ^ ...`, and nft
/// prints the mask with those bits (netlink_delinearize.c: `binop_adjust`).
fn fold(e: &mut Expr) {
    if let Expr::Binop(Op::Or, inner, set) = e
        && let (Expr::Binop(Op::And, _, mask), Expr::Value(Value::Num(set))) =
            (&mut **inner, &**set)
        && let Expr::Value(Value::Num(mask)) = &mut **mask
    {
        // The kernel's expression is (x & (mask & !set)) ^ set; nft shows mask | set when
        // they share bits or not.
        *mask = (*mask & !*set) | *set;
    }
}

/// Which family a NAT statement names: none where the table's says it, but always with concatenated maps.
fn nat_family(table: &Table, rule: &mut Rule) {
    let v6 = rule
        .stmts
        .iter()
        .any(|s| l3_stated(table.family, s) == Some("ip6"));
    let own = match table.family {
        Family::Ip => Some(IpFamily::Ip),
        Family::Ip6 => Some(IpFamily::Ip6),
        _ => None,
    };
    for s in &mut rule.stmts {
        let Stmt::Nat(n) = s else { continue };
        let Some(addr) = &n.addr else { continue };
        let (pair, mapped) = match addr {
            Expr::Map(_, of) => match gives_port(table, of) {
                Some(pair) => (pair, true),
                None => continue,
            },
            _ => (false, false),
        };
        if let (None, Expr::Value(_) | Expr::Range(..), Family::Inet) =
            (n.family, addr, table.family)
        {
            n.family = Some(if v6 { IpFamily::Ip6 } else { IpFamily::Ip });
        }
        match own {
            Some(own) if pair || (n.prefix && mapped) => n.family = Some(own),
            Some(_) => n.family = None,
            None => {}
        }
        if n.fully_random && n.random {
            n.random = false;
        }
    }
}

/// Whether a map gives address and port; None of a map that is not known.
fn gives_port(table: &Table, of: &Expr) -> Option<bool> {
    Some(match of {
        Expr::Set(list) => list
            .iter()
            .any(|e| matches!(&e.data, Some(super::Data::Values(v)) if v.len() > 1)),
        Expr::SetRef(n) => {
            let data = table.sets.get(&**n)?.data.as_ref();
            data.is_some_and(|d| d.dtypes().len() > 1)
        }
        _ => false,
    })
}

/// Values and ranges that touch, as one (nftables segtree/`interval.c`, auto-merge).
pub fn join(parts: &mut Vec<(u128, u128)>) {
    parts.sort_unstable();
    let mut out: Vec<(u128, u128)> = Vec::with_capacity(parts.len());
    for (low, high) in parts.drain(..) {
        match out.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => out.push((low, high)),
        }
    }
    *parts = out;
}

/// A range as nft prints it: one value, a prefix where it is one, or both ends.
pub fn interval(t: Type, low: u128, high: u128) -> Part {
    if low == high {
        return Part::Value(Value::Num(low));
    }
    let size = (high - low).wrapping_add(1);
    let addr = matches!(t, Type::Ipv4 | Type::Ipv6);
    let whole = low == 0 && high == t.max();
    if addr && (whole || (size.is_power_of_two() && low & (size - 1) == 0)) {
        let host = if whole {
            u32::from(t.bits())
        } else {
            size.trailing_zeros()
        };
        let len = u32::from(t.bits()) - host;
        return Part::Prefix(Value::Num(low), u8::try_from(len).unwrap_or(0));
    }
    Part::Range(Value::Num(low), Value::Num(high))
}
