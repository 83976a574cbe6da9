//! Names in a query, settled before it is planned: which relations it reads, which spelling a column has, what `*`
//! stands for.
//!
//! As in Spark, names are found whatever their case, and a result keeps the spelling of the declaration. A name that
//! exists exactly as written always wins. `*` stands for the columns of the source's format: Kafka's columns
//! (`_key`, `_offset` and so on) are there for whoever names them.

mod collect;
mod rewrite;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Fields, SchemaRef};
use datafusion::sql::sqlparser::ast::{Query, VisitMut};

use self::collect::Collect;
use self::rewrite::Rewrite;
use super::error::PlanError;
use super::text::QueryText;

/// The columns every source has besides those of its format.
pub const KAFKA_COLUMNS: [&str; 6] = ["_key", "_topic", "_partition", "_offset", "_timestamp", "_headers"];

/// The relations a query may read.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    relations: BTreeMap<String, Relation>,
    /// Views that could not be planned: whoever reads them is not to blame.
    broken: BTreeSet<String>,
    /// Views declared further down.
    later: BTreeSet<String>,
}

#[derive(Debug)]
struct Relation {
    schema: SchemaRef,
    is_source: bool,
}

impl Catalog {
    pub(super) fn add_source(&mut self, name: &str, schema: SchemaRef) {
        self.relations.insert(name.to_owned(), Relation { schema, is_source: true });
    }

    /// Announces a view, so that a query above it is told about the order.
    pub(super) fn announce_view(&mut self, name: &str) {
        self.later.insert(name.to_owned());
    }

    pub(super) fn add_view(&mut self, name: &str, schema: SchemaRef) {
        self.later.remove(name);
        self.relations.insert(name.to_owned(), Relation { schema, is_source: false });
    }

    pub(super) fn add_broken_view(&mut self, name: &str) {
        self.later.remove(name);
        self.broken.insert(name.to_owned());
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.relations.contains_key(name) || self.broken.contains(name)
    }

    /// Every column name of every relation, for suggestions.
    pub(super) fn columns_of<'a>(&'a self, relations: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
        relations
            .iter()
            .filter_map(|name| self.relations.get(name))
            .flat_map(|relation| relation.schema.fields().iter().map(|field| field.name().as_str()))
    }

    /// Every name a query over these relations may spell: columns, and fields of structs at any depth.
    pub(super) fn names_of(&self, relations: &BTreeSet<String>) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for relation in relations.iter().filter_map(|name| self.relations.get(name)) {
            add_fields(relation.schema.fields(), &mut names);
        }
        names
    }
}

fn add_fields(fields: &Fields, names: &mut BTreeSet<String>) {
    for field in fields {
        names.insert(field.name().clone());
        add_nested(field.data_type(), names);
    }
}

fn add_nested(data_type: &DataType, names: &mut BTreeSet<String>) {
    match data_type {
        DataType::Struct(fields) => add_fields(fields, names),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            add_nested(item.data_type(), names);
        }
        DataType::Map(entry, _) => add_nested(entry.data_type(), names),
        _ => {}
    }
}

/// What settling the names of a query gave.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The sources and views that the query itself reads.
    pub relations: BTreeSet<String>,
    /// Whether one of them could not be planned, so that nothing more can be said about this query.
    pub reads_broken: bool,
}

/// Settles the names of `query`, in place.
///
/// # Errors
/// Every relation that does not exist, and every construct in FROM that is not supported.
pub(super) fn settle(query: &mut Query, text: &QueryText, catalog: &Catalog) -> Result<Settled, Vec<PlanError>> {
    let mut collect = Collect::new(text, catalog);
    let _: ControlFlow<()> = query.visit(&mut collect);
    let (settled, declared) = collect.finish()?;
    let mut names = catalog.names_of(&settled.relations);
    names.extend(settled.relations.iter().cloned());
    names.extend(declared);
    let _: ControlFlow<()> = query.visit(&mut Rewrite::new(catalog, names));
    Ok(settled)
}

/// Which common table expressions are visible. A visit reaches the expressions of a WITH clause before the body
/// they belong to, each as a query of its own; the n-th sees the names of those before it.
#[derive(Default)]
struct Scopes(Vec<Scope>);

struct Scope {
    names: Vec<String>,
    visible: usize,
}

impl Scopes {
    fn enter(&mut self, query: &Query) {
        let names = match &query.with {
            Some(with) => with.cte_tables.iter().map(|cte| cte.alias.name.value.clone()).collect(),
            None => Vec::new(),
        };
        // A recursive expression sees itself, and is refused later for being recursive.
        let visible = if query.with.as_ref().is_some_and(|with| with.recursive) { names.len() } else { 0 };
        self.0.push(Scope { names, visible });
    }

    fn leave(&mut self) {
        self.0.pop();
        if let Some(parent) = self.0.last_mut() {
            parent.visible = (parent.visible + 1).min(parent.names.len());
        }
    }

    /// The name as declared, of the innermost expression that is called so.
    fn find(&self, name: &str) -> Option<&str> {
        let visible = || self.0.iter().rev().flat_map(|scope| scope.names.iter().take(scope.visible).rev());
        visible().find(|known| *known == name).or_else(|| visible().find(|known| same(known, name))).map(String::as_str)
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}
