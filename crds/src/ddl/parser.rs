//! The parser of the schema language: recursive descent over characters, because `>>` closes two levels.

use super::DdlError;
use super::types::{self, Named};
use crate::job::{DataType, Field};

/// How deep types may be nested.
const MAX_DEPTH: usize = 32;
/// The greatest precision of a decimal.
const MAX_PRECISION: u8 = 38;

/// Reads columns: `a INT, b STRING NOT NULL`; a `STRUCT<…>` around them is allowed.
pub fn parse_schema(text: &str) -> Result<Vec<Field>, DdlError> {
    let text: Vec<char> = text.chars().collect();
    let mut parser = Parser { text: &text, at: 0, depth: 0 };
    if parser.is_wrapped_struct() {
        let DataType::Struct(fields) = parser.data_type()? else { return Ok(Vec::new()) };
        parser.end()?;
        return Ok(fields);
    }
    let fields = parser.fields(None)?;
    parser.end()?;
    Ok(fields)
}

/// Reads one type: `ARRAY<INT>`.
pub fn parse_type(text: &str) -> Result<DataType, DdlError> {
    let text: Vec<char> = text.chars().collect();
    let mut parser = Parser { text: &text, at: 0, depth: 0 };
    let data_type = parser.data_type()?;
    parser.end()?;
    Ok(data_type)
}

struct Parser<'a> {
    text: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    /// `STRUCT<…>` and nothing before it: the whole schema is wrapped. A column called `struct` has a type after its name.
    fn is_wrapped_struct(&mut self) -> bool {
        let start = self.at;
        let word = self.word();
        let wrapped = word.eq_ignore_ascii_case("struct") && self.peek() == Some('<');
        self.at = start;
        wrapped
    }

    /// Columns up to `close`, or to the end of the text.
    fn fields(&mut self, close: Option<char>) -> Result<Vec<Field>, DdlError> {
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let next = self.peek();
            if next == close {
                return match fields.is_empty() {
                    true => Err(self.error(1, "a column is missing", "write a name and a type, such as `id BIGINT`")),
                    false => {
                        Err(self.error(1, "a column is missing after the comma", "remove the comma or add a column"))
                    }
                };
            }
            let start = self.at;
            let field = self.field()?;
            if fields.iter().any(|other| other.name.to_lowercase() == field.name.to_lowercase()) {
                let problem = format!("the column `{}` is there twice", field.name);
                self.at = start;
                return Err(self.error(
                    field.name.chars().count(),
                    &problem,
                    "remove or rename one (case does not count)",
                ));
            }
            fields.push(field);
            match self.peek() {
                Some(',') => self.at += 1,
                next if next == close => return Ok(fields),
                _ => return Err(self.after_type(close)),
            }
        }
    }

    /// `name [:] type [NOT NULL] [COMMENT '…']`
    fn field(&mut self) -> Result<Field, DdlError> {
        let name = self.name()?;
        if self.peek() == Some(':') {
            self.at += 1;
        }
        if matches!(self.peek(), None | Some(',' | '>')) {
            let problem = format!("the column `{name}` has no type");
            return Err(self.error(1, &problem, &format!("write a type after the name, such as `{name} STRING`")));
        }
        let data_type = self.data_type()?;
        let mut nullable = true;
        if self.keyword("NOT") {
            if !self.keyword("NULL") {
                return Err(self.error(1, "NOT without NULL", "write NOT NULL"));
            }
            nullable = false;
        } else {
            // `a INT NULL` says what is so anyway.
            self.keyword("NULL");
        }
        if self.keyword("COMMENT") {
            self.comment()?;
        }
        Ok(Field { name, data_type, nullable })
    }

    fn name(&mut self) -> Result<String, DdlError> {
        if self.peek() == Some('`') {
            return self.quoted_name();
        }
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            let found = self.text.get(self.at).map_or("the end".to_owned(), |c| format!("`{c}`"));
            let problem = format!("a column's name is missing before {found}");
            return Err(self.error(1, &problem, "begin names with a letter, or put them between back-quotes"));
        }
        if let Some('-' | '.' | '@' | '$' | '/' | '#') = self.text.get(self.at) {
            let end =
                (self.at..self.text.len()).find(|at| self.text[*at].is_whitespace() || ",:<>".contains(self.text[*at]));
            let end = end.unwrap_or(self.text.len());
            let whole: String = self.text[start..end].iter().collect();
            let fix = format!("put the name between back-quotes: `` `{whole}` ``");
            let found = self.text[self.at];
            self.at = start;
            return Err(self.error(end - start, &format!("`{found}` in the name `{whole}`"), &fix));
        }
        Ok(word)
    }

    fn quoted_name(&mut self) -> Result<String, DdlError> {
        let start = self.at;
        self.at += 1;
        let mut name = String::new();
        while let Some(c) = self.text.get(self.at) {
            self.at += 1;
            if *c != '`' {
                name.push(*c);
            } else if self.text.get(self.at) == Some(&'`') {
                self.at += 1;
                name.push('`');
            } else if name.is_empty() {
                self.at = start;
                return Err(self.error(2, "an empty name", "write a name between the back-quotes"));
            } else {
                return Ok(name);
            }
        }
        self.at = start;
        Err(self.error(1, "a back-quote that is never closed", "close the name with another back-quote"))
    }

    fn data_type(&mut self) -> Result<DataType, DdlError> {
        self.peek();
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            let found = self.text.get(self.at).map_or("the end".to_owned(), |c| format!("`{c}`"));
            return Err(self.error(1, &format!("a type is missing before {found}"), "write a type, such as STRING"));
        }
        let Some(named) = types::lookup(&word) else {
            let length = self.at - start;
            self.at = start;
            return Err(self.error(length, &format!("unknown type `{word}`"), &types::instead(&word)));
        };
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let problem = format!("types are nested more than {MAX_DEPTH} deep");
            self.at = start;
            return Err(self.error(word.len(), &problem, "keep the inner part as STRING"));
        }
        let data_type = match named {
            Named::Simple(DataType::Double) => {
                self.keyword("PRECISION");
                DataType::Double
            }
            Named::Simple(simple) => simple,
            Named::Text => {
                self.arguments(&word, 1)?;
                DataType::String
            }
            Named::Decimal => self.decimal(&word)?,
            Named::Array => {
                self.open(&word, "ARRAY<STRING>")?;
                let data_type = self.data_type()?;
                self.not_null_inside()?;
                self.close(&word)?;
                DataType::Array(Box::new(Field { name: "element".to_owned(), data_type, nullable: true }))
            }
            Named::Map => {
                self.open(&word, "MAP<STRING, STRING>")?;
                let key = Box::new(self.data_type()?);
                if self.peek() != Some(',') {
                    return Err(self.error(1, "a map has a key and a value", "write MAP<STRING, …>"));
                }
                self.at += 1;
                let data_type = self.data_type()?;
                self.not_null_inside()?;
                self.close(&word)?;
                let value = Box::new(Field { name: "value".to_owned(), data_type, nullable: true });
                DataType::Map { key, value }
            }
            Named::Struct => {
                self.open(&word, "STRUCT<name: STRING>")?;
                let fields = self.fields(Some('>'))?;
                self.close(&word)?;
                DataType::Struct(fields)
            }
        };
        self.depth -= 1;
        Ok(data_type)
    }

    fn decimal(&mut self, word: &str) -> Result<DataType, DdlError> {
        self.peek();
        let start = self.at;
        let arguments = self.arguments(word, 2)?;
        let length = self.at - start;
        let (precision, scale) = match arguments[..] {
            [] => (10, 0),
            [precision] => (precision, 0),
            [precision, scale, ..] => (precision, scale),
        };
        let precision_fits = u8::try_from(precision).ok().filter(|precision| (1..=MAX_PRECISION).contains(precision));
        let Some(digits) = precision_fits else {
            self.at = start;
            let fix = format!("write a precision of 1 to {MAX_PRECISION}, such as DECIMAL(10, 2)");
            return Err(self.error(length, &format!("a precision of {precision}"), &fix));
        };
        match i8::try_from(scale) {
            Ok(scale) if scale as u8 <= digits => Ok(DataType::Decimal { precision: digits, scale }),
            _ => {
                self.at = start;
                let problem = format!("a scale of {scale} with a precision of {precision}");
                Err(self.error(length, &problem, "the scale is at most the precision"))
            }
        }
    }

    /// `(1)`, `(1, 2)` or nothing: at most `most` numbers.
    fn arguments(&mut self, word: &str, most: usize) -> Result<Vec<u32>, DdlError> {
        let mut numbers = Vec::new();
        if self.peek() != Some('(') {
            return Ok(numbers);
        }
        self.at += 1;
        loop {
            self.peek();
            let start = self.at;
            let digits = self.word();
            let Ok(number) = digits.parse::<u32>() else {
                self.at = start;
                let example = if most == 2 { format!("{word}(10, 2)") } else { format!("{word}(10)") };
                return Err(self.error(digits.len(), "a whole number is missing", &format!("write it as {example}")));
            };
            numbers.push(number);
            match self.peek() {
                Some(',') if numbers.len() < most => self.at += 1,
                Some(')') => {
                    self.at += 1;
                    return Ok(numbers);
                }
                Some(',') => {
                    let takes = if most == 1 { "one number" } else { "two numbers" };
                    return Err(self.error(1, &format!("{word} takes {takes}"), "remove the rest"));
                }
                _ => return Err(self.error(1, "the bracket is never closed", "write `)`")),
            }
        }
    }

    fn open(&mut self, word: &str, example: &str) -> Result<(), DdlError> {
        if self.peek() == Some('<') {
            self.at += 1;
            return Ok(());
        }
        let problem = format!("{} says nothing of what is in it", word.to_ascii_uppercase());
        Err(self.error(1, &problem, &format!("write it as {example}")))
    }

    fn close(&mut self, word: &str) -> Result<(), DdlError> {
        match self.peek() {
            Some('>') => {
                self.at += 1;
                Ok(())
            }
            Some(',') => {
                let problem = format!("{} takes no more than that", word.to_ascii_uppercase());
                Err(self.error(1, &problem, "for several fields write STRUCT<a: …, b: …>"))
            }
            Some(_) => Err(self.error(1, &format!("unexpected `{}`", self.text[self.at]), "write `>` or `,` here")),
            None => {
                let problem = format!("{}< is never closed", word.to_ascii_uppercase());
                Err(self.error(1, &problem, "write `>` at the end"))
            }
        }
    }

    /// Elements and values of maps are always nullable in this language.
    fn not_null_inside(&mut self) -> Result<(), DdlError> {
        if self.keyword("NOT") {
            return Err(self.error(1, "NOT NULL inside ARRAY or MAP", "put NOT NULL after the column only"));
        }
        Ok(())
    }

    fn comment(&mut self) -> Result<(), DdlError> {
        let quote = match self.peek() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(self.error(1, "COMMENT without a text", "write COMMENT 'text'")),
        };
        let start = self.at;
        self.at += 1;
        while let Some(c) = self.text.get(self.at) {
            self.at += 1;
            match *c {
                '\\' => self.at += 1,
                c if c == quote && self.text.get(self.at) == Some(&quote) => self.at += 1,
                c if c == quote => return Ok(()),
                _ => {}
            }
        }
        self.at = start;
        Err(self.error(1, "a comment that is never closed", "close it with the same quote"))
    }

    fn after_type(&mut self, close: Option<char>) -> DdlError {
        let Some(found) = self.peek() else { return self.error(1, "STRUCT< is never closed", "write `>` at the end") };
        let start = self.at;
        let word = self.word();
        self.at = start;
        if found == '>' {
            return self.error(1, "`>` closes nothing", "remove it");
        }
        if found == '(' {
            return self.error(1, "the type takes no arguments", "remove the brackets");
        }
        if word.eq_ignore_ascii_case("DEFAULT") || word.eq_ignore_ascii_case("GENERATED") {
            let problem = format!("{} is not supported", word.to_ascii_uppercase());
            return self.error(word.len(), &problem, "leave it out, and use coalesce in the query");
        }
        let shown = if word.is_empty() { found.to_string() } else { word.clone() };
        let fix = match close {
            Some(_) => "separate fields by a comma, or close the struct with `>`",
            None => "separate columns by a comma",
        };
        self.error(shown.chars().count(), &format!("unexpected `{shown}`"), fix)
    }

    fn end(&mut self) -> Result<(), DdlError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.after_type(None)),
        }
    }

    /// Takes a keyword, in any case, if it is next.
    fn keyword(&mut self, keyword: &str) -> bool {
        self.peek();
        let start = self.at;
        if self.word().eq_ignore_ascii_case(keyword) {
            return true;
        }
        self.at = start;
        false
    }

    /// Letters, digits and underscores from here on; may be empty.
    fn word(&mut self) -> String {
        self.peek();
        let start = self.at;
        while self.text.get(self.at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    /// The next character that is not white space; it is not taken.
    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn error(&self, length: usize, problem: &str, fix: &str) -> DdlError {
        DdlError::new(self.text, self.at, length, problem.to_owned(), fix.to_owned())
    }
}
