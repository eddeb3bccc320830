//! Boxes that are filled where they stand.
//!
//! Decides nothing. A future begins small and is as large as the largest moment of its life: [`Box::pin`]
//! makes it on the stack and then copies all of it, the kilobytes that nothing was written to as well.

use std::pin::Pin;

/// What `make` makes, made in its box.
#[inline]
pub fn in_place<T>(make: impl FnOnce() -> T) -> Pin<Box<T>> {
    // The room first: nothing can fail between making the value and having it in its place, which is what
    // lets the compiler write it there at once.
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_lies_in_the_box() {
        let text = String::from("value");
        let boxed = in_place(|| (text, [7_u8; 4096]));
        assert_eq!((boxed.0.as_str(), boxed.1[4095]), ("value", 7));
    }
}
