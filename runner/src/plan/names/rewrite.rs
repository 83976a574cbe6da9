//! The second visit of a query: spellings, `*`, Spark's names of functions, and names for fields of structs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, ExceptSelectItem, ExcludeSelectItem, Expr, Ident, JoinConstraint, JoinOperator,
    ObjectName, ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Subscript, TableFactor,
    TableWithJoins, Value, VisitorMut, WildcardAdditionalOptions,
};

use super::{Catalog, KAFKA_COLUMNS, Relation, Scopes, same};

/// The second visit: spellings, `*`, Spark's names of functions, and names for fields of structs.
pub(super) struct Rewrite<'a> {
    catalog: &'a Catalog,
    scopes: Scopes,
    spellings: Spellings,
}

impl<'a> Rewrite<'a> {
    /// `names` are all spellings that the query may mean.
    pub(super) fn new(catalog: &'a Catalog, names: BTreeSet<String>) -> Self {
        Self { catalog, scopes: Scopes::default(), spellings: Spellings::new(names) }
    }
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
            Expr::CompoundFieldAccess { root, access_chain } => {
                // Dots before the first bracket belong to the name: relation.column['field'].
                let mut in_name = matches!(root.as_ref(), Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                for access in access_chain {
                    in_name &= matches!(access, AccessExpr::Dot(_));
                    if in_name {
                        continue;
                    }
                    if let AccessExpr::Dot(Expr::Identifier(ident)) = access {
                        self.spellings.apply(ident);
                        // DataFusion reaches into an element by ['field'] only.
                        let field = Value::SingleQuotedString(ident.value.clone()).with_span(ident.span);
                        *access = AccessExpr::Subscript(Subscript::Index { index: Expr::Value(field) });
                    }
                }
            }
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
                    let names =
                        || relations.iter().filter(|r| r.name.as_ref().is_some_and(|n| same(&n.value, &ident.value)));
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
        let excluded = match &mut options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => std::slice::from_mut(name),
            Some(ExcludeSelectItem::Multiple(names)) => names.as_mut_slice(),
            None => &mut [],
        };
        for part in excluded.iter_mut().flat_map(|name| &mut name.0) {
            if let ObjectNamePart::Identifier(ident) = part {
                self.spellings.apply(ident);
            }
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
