//! The texts of `conntrack`.

/// What a dump line said of a connection that podpath does not know itself; printed again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dumped {
    /// `use=`
    pub uses: Option<u32>,
}
