//! Functions of the service in the settings of a layer.

use std::fmt;
use std::ops::Deref;

/// A pointer to a function of the service. Its debug output shows only that there is one.
pub(crate) struct Function<P>(pub(crate) P);

impl<P> Deref for Function<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P> fmt::Debug for Function<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function")
    }
}
