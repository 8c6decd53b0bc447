//! Reading expressions: fields, keys and generators on the left, literals of their type on the right.
//!
//! Invariant: literals get the type of what they stand with; nesting is bounded by `NFT_DEPTH_MAX`.

mod loads;

use smallvec::SmallVec;

use super::cursor::{Cursor, Read};
use super::expr::*;
use super::fields::{self, Base, CtKey, MetaKey};
use super::lex::Kind;
use super::model::Family;
use super::types::{Type, Value};
use crate::base::limits::NFT_DEPTH_MAX;

const OPS: [(&str, &str, Op, u8); 5] = [
    ("|", "or", Op::Or, 1),
    ("^", "xor", Op::Xor, 2),
    ("&", "and", Op::And, 3),
    ("<<", "lshift", Op::Shl, 4),
    (">>", "rshift", Op::Shr, 4),
];

impl<'a> Cursor<'a> {
    /// Whether the next word begins an expression that is no literal.
    pub fn at_expression(&self) -> bool {
        let mut c = Cursor {
            at: self.at,
            ..*self
        };
        while c.take("(") {}
        c.at_field()
    }

    fn at_field(&self) -> bool {
        let word = self.peek();
        let known = matches!(
            word,
            "meta"
                | "ct"
                | "fib"
                | "rt"
                | "socket"
                | "osf"
                | "numgen"
                | "jhash"
                | "symhash"
                | "exthdr"
                | "ipsec"
                | "@"
        );
        let header = fields::is_header(word) && self.header_field().is_some();
        let ext = fields::ext_kind(fields::EXTHDRS, word).is_some();
        let meta = MetaKey::parse(word).is_some_and(MetaKey::may_be_bare);
        self.is(Kind::Word)
            && (known || header || ext || meta || (word == "tcp" && self.ahead(1) == "option"))
            || word == "@" && Base::parse(self.ahead(1)).is_some()
    }

    /// Descends one level of nesting.
    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth >= NFT_DEPTH_MAX {
            return self.wrong(format!(
                "at most {NFT_DEPTH_MAX} expressions inside one another"
            ));
        }
        self.depth += 1;
        let r = f(self);
        self.depth -= 1;
        r
    }

    /// An expression with all its parts: `a & b . c`.
    pub fn expression(&mut self) -> Read<Expr> {
        self.deeper(|c| {
            let first = c.binop(0)?;
            if c.peek() != "." {
                return Ok(first);
            }
            let mut parts = vec![first];
            while c.take(".") {
                parts.push(c.binop(0)?);
            }
            Ok(Expr::Concat(parts))
        })
    }

    /// Operations that bind at least so strongly.
    fn binop(&mut self, least: u8) -> Read<Expr> {
        let mut left = if self.take("(") {
            let inner = self.deeper(|c| c.binop(0))?;
            self.expect(")")?;
            inner
        } else {
            self.primary()?
        };
        while let Some(op) = OPS
            .iter()
            .find(|o| (self.peek() == o.0 || self.peek() == o.1) && o.3 >= least.max(1))
        {
            self.at += 1;
            let dtype = left.dtype().unwrap_or(Type::Integer(32));
            let number = matches!(op.2, Op::Shl | Op::Shr);
            let right = if self.at_expression() {
                self.deeper(|c| c.binop(op.3 + 1))?
            } else {
                let of = if number { Type::Integer(32) } else { dtype };
                Expr::Value(Value::Num(self.constant(of, op.3 + 1)?))
            };
            left = Expr::Binop(op.2, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// A number put together from words and `|`, `&`, `^`, `<<`, `>>`, parentheses.
    pub fn constant(&mut self, dtype: Type, least: u8) -> Read<u128> {
        let mut left = if self.take("(") {
            let n = self.deeper(|c| c.constant(dtype, 0))?;
            self.expect(")")?;
            n
        } else {
            match self.value(dtype)? {
                Value::Num(n) => n,
                Value::Text(..) => return self.wrong("a number"),
            }
        };
        while let Some(op) = OPS
            .iter()
            .find(|o| (self.peek() == o.0 || self.peek() == o.1) && o.3 >= least.max(1))
        {
            self.at += 1;
            let right = self.constant(dtype, op.3 + 1)?;
            let by = u32::try_from(right).unwrap_or(u32::MAX);
            left = match op.2 {
                Op::Or => left | right,
                Op::Xor => left ^ right,
                Op::And => left & right,
                Op::Shl => left.checked_shl(by).unwrap_or(0) & dtype.max(),
                Op::Shr => left.checked_shr(by).unwrap_or(0),
            };
        }
        Ok(left)
    }

    /// One literal word.
    pub fn value(&mut self, dtype: Type) -> Read<Value> {
        let Some(t) = self
            .token()
            .filter(|t| matches!(t.kind, Kind::Word | Kind::Quoted))
        else {
            return self.wrong(what(dtype));
        };
        let word = self.lexed.get(&t);
        match dtype.read(word, t.kind == Kind::Quoted) {
            Ok(v) => {
                self.at += 1;
                Ok(v)
            }
            Err(expected) => self.wrong(expected),
        }
    }

    /// One literal of a type: value, prefix, range, combination of flags.
    pub fn part(&mut self, dtype: Type) -> Read<super::elements::Part> {
        use super::elements::Part;
        let bracket = self.peek() == "[" && dtype == Type::Ipv6;
        if bracket {
            self.at += 1;
            let v = self.value(dtype)?;
            self.expect("]")?;
            return self.range_of(v, dtype, true);
        }
        if self.peek() == "(" || (dtype.is_flags() && OPS.iter().any(|o| self.ahead(1) == o.0)) {
            return Ok(Part::Value(Value::Num(self.constant(dtype, 0)?)));
        }
        let v = self.value(dtype)?;
        if OPS.iter().any(|o| self.peek() == o.0) && v.num().is_some() {
            self.at -= 1;
            return Ok(Part::Value(Value::Num(self.constant(dtype, 0)?)));
        }
        self.range_of(v, dtype, false)
    }

    fn range_of(&mut self, v: Value, dtype: Type, bracket: bool) -> Read<super::elements::Part> {
        use super::elements::Part;
        if self.peek() == "/" && !dtype.is_flags() {
            self.at += 1;
            let len: u8 = self.number("a prefix length")?;
            if u16::from(len) > dtype.bits() {
                self.at -= 1;
                return self.wrong(format!("a prefix length up to {}", dtype.bits()));
            }
            let host = u32::from(dtype.bits()) - u32::from(len);
            let keep = u128::MAX.checked_shl(host).unwrap_or(0);
            return Ok(match v {
                Value::Num(n) if host == 0 => Part::Value(Value::Num(n)),
                Value::Num(n) => Part::Prefix(Value::Num(n & keep), len),
                text => Part::Value(text),
            });
        }
        if self.take("-") {
            let open = bracket && self.take("[");
            let at = self.byte();
            let high = self.value(dtype)?;
            if open {
                self.expect("]")?;
            }
            if high < v {
                return Err(super::cursor::Wrong {
                    at,
                    expected: "a range's end that is not below its start".into(),
                });
            }
            return Ok(if high == v {
                Part::Value(v)
            } else {
                Part::Range(v, high)
            });
        }
        Ok(Part::Value(v))
    }

    /// The right side of a comparison with something of these types.
    pub fn right(&mut self, types: &[Type]) -> Read<Expr> {
        if self.take("@") {
            return Ok(Expr::SetRef(self.name("a set's name")?.into()));
        }
        if self.peek() == "{" {
            return Ok(Expr::Set(self.deeper(|c| c.elements(types, None))?));
        }
        if let [one] = types {
            let first = literal(self.part(*one)?);
            return self.flags(first, *one);
        }
        let mut parts = Vec::new();
        for (i, t) in types.iter().enumerate() {
            if i > 0 {
                self.expect(".")?;
            }
            parts.push(literal(self.part(*t)?));
        }
        if parts.is_empty() {
            self.wrong("an expression whose type is known on the left")
        } else {
            Ok(Expr::Concat(parts))
        }
    }

    /// `a,b,c` and `a,b / c,d` of flags.
    fn flags(&mut self, first: Expr, dtype: Type) -> Read<Expr> {
        let Expr::Value(first) = first else {
            return Ok(first);
        };
        if !dtype.is_flags() || !matches!(self.peek(), "," | "/") {
            return Ok(Expr::Value(first));
        }
        let mut list = vec![first];
        while self.take(",") {
            list.push(self.value(dtype)?);
        }
        let sum = |l: &[Value]| l.iter().filter_map(Value::num).fold(0, |a, b| a | b);
        if !self.take("/") {
            return Ok(Expr::Flags(list));
        }
        let mut mask = vec![self.value(dtype)?];
        while self.take(",") {
            mask.push(self.value(dtype)?);
        }
        Ok(Expr::Masked(sum(&list), sum(&mask)))
    }

    /// One field, key or generator.
    pub fn primary(&mut self) -> Read<Expr> {
        let word = self.peek();
        if word == "@" && Base::parse(self.ahead(1)).is_some() {
            return self.raw_payload();
        }
        if !self.is(Kind::Word) {
            return self.wrong("an expression or a statement");
        }
        match word {
            "meta" => {
                self.at += 1;
                self.meta_key()
            }
            "ct" => self.ct_key(),
            "fib" => self.fib(),
            "socket" => self.socket(),
            "osf" => self.osf(),
            "numgen" | "jhash" | "symhash" => self.generator(),
            "exthdr" => self.exthdr_exists(),
            "ipsec" => self.ipsec(),
            "rt" => self.rt(),
            "tcp" | "ip" if self.ahead(1) == "option" => self.option(word == "tcp"),
            "sctp" if self.ahead(1) == "chunk" => self.chunk(),
            _ => self.other(word),
        }
    }

    fn other(&mut self, word: &'a str) -> Read<Expr> {
        if let Some((field, tokens)) = self.header_field() {
            self.at += tokens;
            return Ok(Expr::Payload(field));
        }
        if fields::is_header(word) {
            self.at += 1;
            let names: Vec<_> = fields::FIELDS
                .iter()
                .filter(|f| f.proto == word)
                .map(|f| f.name)
                .collect();
            return self.wrong(format!("a field of {word}: {}", names.join(", ")));
        }
        if fields::ext_kind(fields::EXTHDRS, word).is_some() {
            return self.exthdr(word);
        }
        if MetaKey::parse(word).is_some_and(MetaKey::may_be_bare) {
            return self.meta_key();
        }
        self.wrong("an expression or a statement")
    }

    fn header_field(&self) -> Option<(&'static fields::Field, usize)> {
        let proto = self.peek();
        let long = format!("{} {}", self.ahead(1), self.ahead(2));
        fields::payload(proto, &long)
            .map(|f| (f, 3))
            .or_else(|| fields::payload(proto, self.ahead(1)).map(|f| (f, 2)))
    }

    fn raw_payload(&mut self) -> Read<Expr> {
        self.at += 1;
        let Some(base) = Base::parse(self.peek()) else {
            return self.wrong("`ll`, `nh`, `th` or `ih`");
        };
        self.at += 1;
        self.expect(",")?;
        let offset = self.number("an offset in bits")?;
        self.expect(",")?;
        let bits: u16 = self.number("a length in bits")?;
        if bits == 0 || bits > 128 {
            self.at -= 1;
            return self.wrong("a length of 1 to 128 bits");
        }
        Ok(Expr::Raw(base, offset, bits))
    }

    fn meta_key(&mut self) -> Read<Expr> {
        let key = match self.peek() {
            "ibriport" | "ibridgename" => Some(MetaKey::IbrName),
            "obriport" | "obridgename" => Some(MetaKey::ObrName),
            "secpath" => Some(MetaKey::Ipsec),
            word => MetaKey::parse(word),
        };
        match key {
            Some(k) => {
                self.at += 1;
                Ok(Expr::Meta(k))
            }
            None => self.wrong("a meta key such as mark, iifname or l4proto"),
        }
    }

    fn direction(&mut self) -> Option<Direction> {
        if self.take("original") {
            return Some(Direction::Original);
        }
        self.take("reply").then_some(Direction::Reply)
    }

    fn ct_key(&mut self) -> Read<Expr> {
        self.at += 1;
        let dir = self.direction();
        let v6 = self.family == Family::Ip6;
        let word = self.peek();
        let pair = format!("{word} {}", self.ahead(1));
        let key = match word {
            "ip" | "ip6" => CtKey::parse(&pair).inspect(|_| self.at += 1),
            "saddr" if v6 => Some(CtKey::Ip6Saddr),
            "daddr" if v6 => Some(CtKey::Ip6Daddr),
            "saddr" => Some(CtKey::Ip4Saddr),
            "daddr" => Some(CtKey::Ip4Daddr),
            _ => CtKey::parse(word),
        };
        let Some(key) = key else {
            return self.wrong("a ct key such as state, mark or original saddr");
        };
        use CtKey::*;
        let directed = matches!(
            key,
            Ip4Saddr | Ip4Daddr | Ip6Saddr | Ip6Daddr | ProtoSrc | ProtoDst
        );
        let either = matches!(key, Bytes | Packets | AvgPkt | Zone);
        if directed && dir.is_none() {
            return self.wrong("`original` or `reply` before this key");
        }
        self.at += 1;
        // The kernel knows no direction of protocol and l3proto, and nft does not print it.
        Ok(Expr::Ct(key, dir.filter(|_| directed || either)))
    }

    /// Types that `typeof EXPR` stands for, with the expression.
    pub fn typeof_expr(&mut self) -> Read<Expr> {
        let e = self.expression()?;
        let types: SmallVec<[Type; 4]> = e.dtypes();
        if types.is_empty() {
            self.wrong("an expression that has a type")
        } else {
            Ok(e)
        }
    }
}

/// A key's or datum's part as an expression.
pub fn literal(part: super::elements::Part) -> Expr {
    use super::elements::Part;
    match part {
        Part::Value(v) => Expr::Value(v),
        Part::Prefix(v, len) => Expr::Prefix(v, len),
        Part::Range(a, b) => Expr::Range(a, b),
        Part::Any => Expr::Value(Value::Num(0)),
    }
}

fn what(dtype: Type) -> String {
    dtype
        .read("", false)
        .err()
        .unwrap_or_else(|| format!("a value of type {}", dtype.name()))
}
