//! Helpers of the unit tests.

/// Asserts that a value has this form, or shows it, after the case that it belongs to.
macro_rules! assert_is {
    ($value:expr, $form:pat $(, $case:literal)?) => {
        match &$value {
            $form => {}
            other => {
                let case = String::new() $(+ &format!($case) + ": ")?;
                panic!("{case}{other:?} is not {}", stringify!($form));
            }
        }
    };
}
