//! One declaration per extension: its fields, the options that set them, the order they are printed in.
//!
//! The [`options!`] macro makes the struct, the list of option words, the reader and the printer from
//! it, so that the three cannot disagree. Does not know what an extension means. Invariant: printing a
//! module and reading it back gives an equal module.

use super::table::Family;

/// A value that a rule can ask for or, with `!` before its option, ask against.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Is<T> {
    /// Whether `!` stood before it.
    pub not: bool,
    /// The value.
    pub value: T,
}

impl<T> Is<T> {
    /// The value without `!`.
    pub fn plain(value: T) -> Self {
        Is { not: false, value }
    }

    /// The value with `!`.
    pub fn not(value: T) -> Self {
        Is { not: true, value }
    }
}

/// What an option's words mean.
pub trait Value: Sized {
    /// How many words follow the option.
    const WORDS: usize = 1;
    /// Reads the words after `option`; the error says what was expected.
    fn read(option: &str, words: &[&str], family: Family) -> Result<Self, String>;
    /// Writes the option with its words; a leading space before each.
    fn show(&self, option: &str, out: &mut String) {
        out.push(' ');
        out.push_str(option);
        out.push(' ');
        self.text(out);
    }
    /// Writes the words alone.
    fn text(&self, out: &mut String);
}

/// A field of a module: optional value, negatable value or flag.
pub trait Field {
    /// Words after the option.
    const WORDS: usize;
    /// Takes an option; refuses a `!` that the option does not allow.
    fn take(&mut self, o: &str, not: bool, w: &[&str], family: Family) -> Result<(), String>;
    /// Prints the field if set.
    fn print(&self, option: &str, out: &mut String);
}

impl<T: Value> Field for Option<Is<T>> {
    const WORDS: usize = T::WORDS;
    fn take(&mut self, o: &str, not: bool, w: &[&str], family: Family) -> Result<(), String> {
        once(self, o)?;
        let value = T::read(o, w, family)?;
        *self = Some(Is { not, value });
        Ok(())
    }
    fn print(&self, option: &str, out: &mut String) {
        if let Some(is) = self {
            out.push_str(if is.not { " !" } else { "" });
            is.value.show(option, out);
        }
    }
}

impl<T: Value> Field for Option<T> {
    const WORDS: usize = T::WORDS;
    fn take(&mut self, o: &str, not: bool, w: &[&str], family: Family) -> Result<(), String> {
        never(o, not)?;
        once(self, o)?;
        *self = Some(T::read(o, w, family)?);
        Ok(())
    }
    fn print(&self, option: &str, out: &mut String) {
        if let Some(value) = self {
            value.show(option, out);
        }
    }
}

impl Field for bool {
    const WORDS: usize = 0;
    fn take(&mut self, o: &str, not: bool, _: &[&str], _: Family) -> Result<(), String> {
        never(o, not)?;
        *self = true;
        Ok(())
    }
    fn print(&self, option: &str, out: &mut String) {
        if *self {
            out.push(' ');
            out.push_str(option);
        }
    }
}

/// A flag that may stand with `!` (`! --physdev-is-in`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Flag;

impl Value for Flag {
    const WORDS: usize = 0;
    fn read(_: &str, _: &[&str], _: Family) -> Result<Self, String> {
        Ok(Flag)
    }
    fn show(&self, option: &str, out: &mut String) {
        out.push(' ');
        out.push_str(option);
    }
    fn text(&self, _: &mut String) {}
}

fn once<T>(slot: &Option<T>, option: &str) -> Result<(), String> {
    match slot {
        Some(_) => Err(format!("`{option}` once at most")),
        None => Ok(()),
    }
}

fn never(option: &str, not: bool) -> Result<(), String> {
    match not {
        true => Err(format!("no `!` before `{option}`")),
        false => Ok(()),
    }
}

/// What every extension can do.
pub trait Module {
    /// Words that follow `option`, `None` if the extension has no such option.
    fn words(&self, option: &str) -> Option<usize>;
    /// Takes one option with its words; the error says what was expected.
    fn take(&mut self, o: &str, not: bool, w: &[&str], family: Family) -> Result<(), String>;
    /// Prints the options that are set, each with a leading space, in the order of iptables-save.
    fn print(&self, out: &mut String);
}

/// Declares an extension: `field: Type = "--option" "--other-spelling"`.
macro_rules! options {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$fmeta:meta])* $field:ident: $ty:ty = $($opt:literal)+,)*
    })+) => { $(
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

        impl $crate::nf::field::Module for $name {
            #[allow(unused_variables, reason = "an extension may have no options")]
            fn words(&self, option: &str) -> Option<usize> {
                $(if [$($opt),+].contains(&option) {
                    return Some(<$ty as $crate::nf::field::Field>::WORDS);
                })*
                None
            }
            #[allow(unused_variables, reason = "an extension may have no options")]
            fn take(
                &mut self, o: &str, not: bool, w: &[&str], family: $crate::nf::table::Family,
            ) -> Result<(), String> {
                $(if [$($opt),+].contains(&o) {
                    return $crate::nf::field::Field::take(&mut self.$field, o, not, w, family);
                })*
                Err(format!("an option of this extension, not `{o}`"))
            }
            #[allow(unused_variables, reason = "an extension may have no options")]
            fn print(&self, out: &mut String) {
                $($crate::nf::field::Field::print(&self.$field, [$($opt),+][0], out);)*
            }
        }
    )+ };
}
pub(crate) use options;
