//! The text of a query: parsing it, and finding positions in it.

use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::depth::{DEEPEST, too_deep};
use super::error::{Place, PlanError, Position};

/// DataFusion's own dialect: identifiers may be quoted with double quotes or, as Spark's users do, with backquotes.
const DIALECT: GenericDialect = GenericDialect {};

/// Levels of parentheses and queries, for which the parser recurses over large frames.
const DEEPEST_PARENTHESES: usize = 50;

/// One query of the manifest, as written.
#[derive(Debug, Clone)]
pub(super) struct QueryText {
    pub place: Place,
    pub sql: String,
}

impl QueryText {
    /// Parses the text, which must be exactly one query.
    pub(super) fn parse(&self) -> Result<Query, PlanError> {
        let parsed = Parser::new(&DIALECT)
            .with_recursion_limit(DEEPEST_PARENTHESES)
            .try_with_sql(&self.sql)
            .and_then(|mut parser| parser.parse_statements());
        let mut statements = parsed.map_err(|error| self.syntax_error(&error))?;
        match (statements.pop(), statements.len()) {
            (Some(Statement::Query(query)), 0) => match too_deep(&query) {
                None => Ok(*query),
                Some(what) => {
                    let message = format!("the SQL holds {what} that are nested more than {DEEPEST} deep");
                    Err(PlanError::new(self.place.clone(), message).with_help(
                        "write a long chain of comparisons as column IN (…), or divide the query into views",
                    ))
                }
            },
            (Some(_), 0) => Err(PlanError::new(self.place.clone(), "the SQL is not a query")
                .with_help("write one SELECT; the sink says where its rows go")),
            (None, _) => Err(PlanError::new(self.place.clone(), "the SQL is empty").with_help("write one SELECT")),
            (Some(_), _) => Err(PlanError::new(self.place.clone(), "the SQL holds more than one statement")
                .with_help("give each query an output or a view of its own")),
        }
    }

    /// The position of a location the parser or the planner names; `None` for an invented one.
    pub(super) fn position(&self, line: u64, column: u64) -> Option<Box<Position>> {
        Position::new(&self.place, &self.sql, line, column).map(Box::new)
    }

    /// Where these words and signs first stand one after the other, compared without case and without quotes.
    pub(super) fn find(&self, words: &[&str]) -> Option<Box<Position>> {
        let tokens = Tokenizer::new(&DIALECT, &self.sql).tokenize_with_location().ok()?;
        let seen: Vec<(String, Location)> = tokens
            .into_iter()
            .filter_map(|token| {
                let start = token.span.start;
                match token.token {
                    Token::Whitespace(_) => None,
                    Token::Word(word) => Some((word.value, start)),
                    Token::SingleQuotedString(text) => Some((text, start)),
                    other => Some((other.to_string(), start)),
                }
            })
            .collect();
        let matches = |window: &&[(String, Location)]| {
            window.iter().zip(words).all(|((seen, _), word)| seen.eq_ignore_ascii_case(word))
        };
        let start = seen.windows(words.len().max(1)).find(matches)?.first()?.1;
        self.position(start.line, start.column)
    }

    fn syntax_error(&self, error: &ParserError) -> PlanError {
        let words = match error {
            ParserError::TokenizerError(words) | ParserError::ParserError(words) => words.as_str(),
            ParserError::RecursionLimitExceeded => "expressions are nested too deeply",
        };
        let (words, location) = split_location(words);
        let mut found = PlanError::new(self.place.clone(), format!("the SQL does not parse: {words}"));
        found.position = match location {
            Some((line, column)) => self.position(line, column),
            None => self.end(),
        };
        found
    }

    /// Just behind the last character: where an unexpected end is.
    fn end(&self) -> Option<Box<Position>> {
        let text = self.sql.trim_end();
        let line = text.lines().count();
        let column = text.lines().next_back()?.chars().count() + 1;
        self.position(u64::try_from(line).ok()?, u64::try_from(column).ok()?)
    }
}

/// Splits sqlparser's "… at Line: 1, Column: 8" into the words and the location.
fn split_location(words: &str) -> (&str, Option<(u64, u64)>) {
    let Some((before, after)) = words.rsplit_once(" at Line: ") else { return (words, None) };
    let mut numbers = after.split(", Column: ").map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column)), None) => (before, Some((line, column))),
        _ => (words, None),
    }
}

/// The closest of `candidates` to `name`, if one is close enough to be meant.
pub(super) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean 'x'?", or else the list of what there is.
pub(super) fn suggestion<'a>(name: &str, what: &str, candidates: &[&'a str]) -> Option<String> {
    const LISTED: usize = 12;
    if let Some(close) = closest(name, candidates.iter().copied()) {
        return Some(format!("did you mean '{close}'?"));
    }
    if candidates.is_empty() {
        return None;
    }
    let mut list = candidates.iter().take(LISTED).copied().collect::<Vec<&'a str>>().join(", ");
    if candidates.len() > LISTED {
        list.push_str(", …");
    }
    Some(format!("{what}: {list}"))
}
