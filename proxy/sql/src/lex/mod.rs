//! From bytes to tokens: what the charset, the `sql_mode` and the parameters of a session make of a text.

mod charset;
mod lexer;
mod marks;
mod mode;
mod quoting;
mod text;
mod token;

pub use charset::Charset;
pub use marks::{Marks, Parameterized, without_mark};
pub use mode::{Mode, UnsupportedMode};

pub(crate) use lexer::{Lexer, is_blank, is_ident, lex};
pub(crate) use quoting::{decode, identifier, unquote_string};
pub(crate) use text::Text;
pub(crate) use token::{Comment, CommentKind, Executable, Kind, Lexed, Token};
