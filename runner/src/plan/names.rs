//! Names in a query, settled before it is planned: which relations it reads, which spelling a column has, what `*`
//! stands for.
//!
//! As in Spark, names are found whatever their case, and a result keeps the spelling of the declaration. A name that
//! exists exactly as written always wins. `*` stands for the columns of the source's format: Kafka's columns
//! (`_key`, `_offset` and so on) are there for whoever names them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Fields, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, ExceptSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Subscript, TableAlias, TableFactor,
    TableWithJoins, Value, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::error::PlanError;
use super::text::{QueryText, suggestion};

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
    let mut collect = Collect {
        text,
        catalog,
        scopes: Scopes::default(),
        settled: Settled::default(),
        declared: BTreeSet::new(),
        errors: Vec::new(),
    };
    let _: ControlFlow<()> = query.visit(&mut collect);
    let Collect { settled, declared, errors, .. } = collect;
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut names = catalog.names_of(&settled.relations);
    names.extend(settled.relations.iter().cloned());
    names.extend(declared);
    let mut rewrite = Rewrite { catalog, scopes: Scopes::default(), spellings: Spellings::new(names) };
    let _: ControlFlow<()> = query.visit(&mut rewrite);
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
        self.0.push(Scope { names, visible: 0 });
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
        visible()
            .find(|known| *known == name)
            .or_else(|| visible().find(|known| same(known, name)))
            .map(String::as_str)
    }
}

/// Names and their spellings.
struct Spellings {
    exact: BTreeSet<String>,
    folded: BTreeMap<String, Vec<String>>,
}

impl Spellings {
    fn new(names: BTreeSet<String>) -> Self {
        let mut folded: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in &names {
            folded.entry(name.to_lowercase()).or_default().push(name.clone());
        }
        Self { exact: names, folded }
    }

    /// Gives `ident` its declared spelling, unless it has it, or several would do.
    fn apply(&self, ident: &mut Ident) {
        if self.exact.contains(&ident.value) {
            return;
        }
        if let Some([only]) = self.folded.get(&ident.value.to_lowercase()).map(Vec::as_slice) {
            ident.value.clone_from(only);
        }
    }
}

/// The first visit: relations, and the names that the query itself declares.
struct Collect<'a> {
    text: &'a QueryText,
    catalog: &'a Catalog,
    scopes: Scopes,
    settled: Settled,
    declared: BTreeSet<String>,
    errors: Vec<PlanError>,
}

impl Collect<'_> {
    fn refuse(&mut self, message: impl Into<String>, help: Option<String>, at: Option<&Ident>) {
        let mut error = PlanError::new(self.text.place.clone(), message);
        error.help = help;
        error.position = at.and_then(|ident| self.text.position(ident.span.start.line, ident.span.start.column));
        self.errors.push(error);
    }

    fn declare_alias(&mut self, alias: Option<&TableAlias>) {
        if let Some(alias) = alias {
            self.declared.insert(alias.name.value.clone());
            self.declared.extend(alias.columns.iter().map(|column| column.name.value.clone()));
        }
    }

    fn relation(&mut self, name: &mut ObjectName) {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice() else {
            let at = name.0.first().and_then(ObjectNamePart::as_ident).cloned();
            let help = Some("sources and views have plain names".to_owned());
            return self.refuse(format!("there is no source or view named '{name}'"), help, at.as_ref());
        };
        if let Some(known) = self.scopes.find(&ident.value) {
            ident.value = known.to_owned();
            return;
        }
        let found = {
            let names = || self.catalog.relations.keys().chain(&self.catalog.broken);
            let exact = names().find(|known| **known == ident.value);
            exact.or_else(|| names().find(|known| same(known, &ident.value))).cloned()
        };
        match found {
            Some(known) if self.catalog.broken.contains(&known) => self.settled.reads_broken = true,
            Some(known) => {
                ident.value.clone_from(&known);
                self.settled.relations.insert(known);
            }
            None => {
                let ident = ident.clone();
                self.unknown_relation(&ident);
            }
        }
    }

    fn unknown_relation(&mut self, ident: &Ident) {
        let name = &ident.value;
        if let Some(later) = self.catalog.later.iter().find(|later| same(later, name)) {
            let message = format!("view '{later}' is declared further down");
            let help = "a view can be read by outputs and by the views below it: move it up".to_owned();
            return self.refuse(message, Some(help), Some(ident));
        }
        let known: Vec<&str> = self.catalog.relations.keys().map(String::as_str).collect();
        let help = suggestion(name, "there are", &known);
        self.refuse(format!("there is no source or view named '{name}'"), help, Some(ident));
    }
}

impl VisitorMut for Collect<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.scopes.enter(query);
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.declare_alias(Some(&cte.alias));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => {
                    self.declared.insert(alias.value.clone());
                }
                SelectItem::ExprWithAliases { aliases, .. } => {
                    self.declared.extend(aliases.iter().map(|alias| alias.value.clone()));
                }
                _ => {}
            }
        }
        if let Some(view) = select.lateral_views.first() {
            let help = "write explode(items) AS item among the selected columns, in a view, and read item.… from it";
            let at = view.lateral_view_name.0.first().and_then(ObjectNamePart::as_ident).cloned();
            self.refuse("LATERAL VIEW is not supported", Some(help.to_owned()), at.as_ref());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                self.relation(name);
                self.declare_alias(alias.as_ref());
            }
            TableFactor::Derived { alias, .. } | TableFactor::NestedJoin { alias, .. } => {
                self.declare_alias(alias.as_ref());
            }
            TableFactor::UNNEST { .. } => {
                let help = "write unnest(items) AS item among the selected columns";
                self.refuse("unnest in FROM is not supported", Some(help.to_owned()), None);
                if let Some(error) = self.errors.last_mut() {
                    error.position = self.text.find(&["unnest"]);
                }
            }
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
                let (message, at) =
                    (format!("function '{name}' cannot stand in FROM"), name.0.first().and_then(|p| p.as_ident()));
                let help = "FROM takes sources, views and queries in parentheses".to_owned();
                self.refuse(message, Some(help), at.cloned().as_ref());
            }
            other => {
                let help = "FROM takes sources, views and queries in parentheses".to_owned();
                self.refuse(format!("'{other}' is not supported in FROM"), Some(help), None);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Lambda(lambda) = expr {
            self.declared.extend(lambda.params.iter().map(|param| param.name.value.clone()));
        }
        ControlFlow::Continue(())
    }
}

/// The second visit: spellings, `*`, Spark's names of functions, and names for fields of structs.
struct Rewrite<'a> {
    catalog: &'a Catalog,
    scopes: Scopes,
    spellings: Spellings,
}

impl VisitorMut for Rewrite<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.spellings.apply(ident),
            Expr::CompoundIdentifier(idents) => idents.iter_mut().for_each(|ident| self.spellings.apply(ident)),
            Expr::Function(function) => rename_function(&mut function.name),
            Expr::RLike { negated, expr: text, pattern, .. } => {
                let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                *expr = Expr::BinaryOp { left: text.clone(), op, right: pattern.clone() };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for join in select.from.iter_mut().flat_map(|table| &mut table.joins) {
            if let Some(JoinConstraint::Using(columns)) = constraint_mut(&mut join.join_operator) {
                for part in columns.iter_mut().flat_map(|column| &mut column.0) {
                    if let ObjectNamePart::Identifier(ident) = part {
                        self.spellings.apply(ident);
                    }
                }
            }
        }
        let relations = self.relations_of(&select.from);
        let items = std::mem::take(&mut select.projection);
        for item in items {
            self.rewrite_item(item, &relations, &mut select.projection);
        }
        ControlFlow::Continue(())
    }
}

/// A relation in a FROM clause, as `*` sees it.
struct FromRelation {
    /// What its columns are qualified with; a derived table may have no name.
    name: Option<Ident>,
    /// Columns that `*` leaves out: Kafka's, and those of USING that the left side gives already.
    hidden: Vec<Ident>,
}

impl Rewrite<'_> {
    fn rewrite_item(&self, item: SelectItem, relations: &[FromRelation], out: &mut Vec<SelectItem>) {
        match item {
            SelectItem::Wildcard(mut options) => {
                self.spell_options(&mut options);
                let hides = relations.iter().any(|relation| !relation.hidden.is_empty());
                let plain = options.opt_except.is_none() && options.opt_exclude.is_none();
                let named = relations.iter().all(|relation| relation.name.is_some());
                if hides && relations.len() > 1 && plain && named {
                    for relation in relations {
                        let mut options = options.clone();
                        hide(&mut options, &relation.hidden);
                        let name = ObjectName::from(relation.name.iter().cloned().collect::<Vec<_>>());
                        let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
                        out.push(SelectItem::QualifiedWildcard(kind, options));
                    }
                    return;
                }
                for relation in relations {
                    hide(&mut options, &relation.hidden);
                }
                out.push(SelectItem::Wildcard(options));
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(mut name), mut options) => {
                self.spell_options(&mut options);
                if let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice() {
                    let names = || relations.iter().filter(|r| r.name.as_ref().is_some_and(|n| same(&n.value, &ident.value)));
                    if let Some(FromRelation { name: Some(known), hidden }) = names().next() {
                        ident.value.clone_from(&known.value);
                        hide(&mut options, hidden);
                    }
                }
                out.push(SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options));
            }
            SelectItem::UnnamedExpr(expr) => out.push(match field_name(&expr, relations) {
                Some(alias) => SelectItem::ExprWithAlias { expr, alias },
                None => SelectItem::UnnamedExpr(expr),
            }),
            other => out.push(other),
        }
    }

    fn spell_options(&self, options: &mut WildcardAdditionalOptions) {
        if let Some(except) = &mut options.opt_except {
            self.spellings.apply(&mut except.first_element);
            except.additional_elements.iter_mut().for_each(|ident| self.spellings.apply(ident));
        }
    }

    fn relations_of(&self, from: &[TableWithJoins]) -> Vec<FromRelation> {
        let mut relations = Vec::new();
        for table in from {
            self.add_table(table, &mut relations);
        }
        relations
    }

    fn add_table(&self, table: &TableWithJoins, relations: &mut Vec<FromRelation>) {
        self.add_factor(&table.relation, relations);
        for join in &table.joins {
            let first = relations.len();
            self.add_factor(&join.relation, relations);
            let mut operator = join.join_operator.clone();
            if let (Some(JoinConstraint::Using(columns)), Some(right)) =
                (constraint_mut(&mut operator), relations.get_mut(first))
            {
                let columns = columns.iter().filter_map(|column| column.0.last().and_then(ObjectNamePart::as_ident));
                right.hidden.extend(columns.cloned());
            }
        }
    }

    fn add_factor(&self, factor: &TableFactor, relations: &mut Vec<FromRelation>) {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let ident = name.0.last().and_then(ObjectNamePart::as_ident);
                let renamed = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                let hidden = match ident {
                    Some(ident) if !renamed && self.scopes.find(&ident.value).is_none() => {
                        self.kafka_columns_of(&ident.value)
                    }
                    _ => Vec::new(),
                };
                let name = alias.as_ref().map(|alias| &alias.name).or(ident).cloned();
                relations.push(FromRelation { name, hidden });
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.add_table(table_with_joins, relations),
            TableFactor::Derived { alias, .. } | TableFactor::NestedJoin { alias, .. } => {
                relations.push(FromRelation { name: alias.as_ref().map(|alias| alias.name.clone()), hidden: vec![] });
            }
            _ => relations.push(FromRelation { name: None, hidden: Vec::new() }),
        }
    }

    fn kafka_columns_of(&self, relation: &str) -> Vec<Ident> {
        let Some(Relation { schema, is_source: true }) = self.catalog.relations.get(relation) else {
            return Vec::new();
        };
        let present = KAFKA_COLUMNS.iter().filter(|column| schema.index_of(column).is_ok());
        present.map(|column| Ident::new(*column)).collect()
    }
}

/// Adds `hidden` to what a wildcard leaves out.
fn hide(options: &mut WildcardAdditionalOptions, hidden: &[Ident]) {
    for ident in hidden {
        let ident = Ident::new(ident.value.clone());
        match &mut options.opt_except {
            None => {
                options.opt_except = Some(ExceptSelectItem { first_element: ident, additional_elements: Vec::new() });
            }
            Some(except) => {
                let listed = std::iter::once(&except.first_element).chain(&except.additional_elements);
                if !listed.into_iter().any(|listed| listed.value == ident.value) {
                    except.additional_elements.push(ident);
                }
            }
        }
    }
}

/// Spark's names of functions that are called otherwise here.
fn rename_function(name: &mut ObjectName) {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice() else { return };
    let here = match ident.value.to_ascii_lowercase().as_str() {
        "explode" => "unnest",
        "explode_outer" => "unnest_outer",
        _ => return,
    };
    ident.value = here.to_owned();
}

/// The name of a selected field of a struct that has no alias: the field's own, as in Spark.
fn field_name(expr: &Expr, relations: &[FromRelation]) -> Option<Ident> {
    match expr {
        Expr::CompoundIdentifier(idents) => {
            let is_relation = |ident: &Ident| {
                relations.iter().any(|relation| relation.name.as_ref().is_some_and(|name| name.value == ident.value))
            };
            let qualified = idents.first().is_some_and(is_relation);
            let column_parts = if qualified { 2 } else { 1 };
            (idents.len() > column_parts).then(|| idents.last().cloned()).flatten()
        }
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
            AccessExpr::Dot(Expr::Identifier(ident)) => Some(ident.clone()),
            AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) => match &value.value {
                Value::SingleQuotedString(name) => Some(Ident::new(name.clone())),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    use JoinOperator::{FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
    match operator {
        Join(c) | Inner(c) | Left(c) | LeftOuter(c) | Right(c) | RightOuter(c) | FullOuter(c) => Some(c),
        _ => None,
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}
