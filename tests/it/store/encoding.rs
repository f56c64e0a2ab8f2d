//! Text in PostgreSQL, which has no NUL.

use polos::store::internals::{decoded, encoded};

#[test]
fn nul_comes_back_and_keeps_the_order() {
    let mut texts =
        ["", "\0", "\0\0", "\0a", "\u{1}", "\u{1}\0", "\u{1}\u{1}", "\u{2}", "a", "a\0", "a\u{1}"];
    texts.sort_unstable();
    for text in texts {
        assert!(!encoded(text).contains('\0'));
        assert_eq!(decoded(&encoded(text)), text);
    }
    assert!(texts.windows(2).all(|pair| encoded(pair[0]) < encoded(pair[1])));
}
