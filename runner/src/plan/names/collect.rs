//! The first visit of a query: which relations it reads, and which names it declares itself.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, TableAlias, TableFactor, VisitorMut,
};

use super::syntax::{unsupported_in_query, unsupported_in_relation, unsupported_in_select};
use super::{Catalog, Scopes, Settled, same};
use crate::plan::error::PlanError;
use crate::plan::text::{QueryText, suggestion};

/// The first visit: relations, and the names that the query itself declares.
pub(super) struct Collect<'a> {
    text: &'a QueryText,
    catalog: &'a Catalog,
    scopes: Scopes,
    settled: Settled,
    declared: BTreeSet<String>,
    errors: Vec<PlanError>,
}

impl<'a> Collect<'a> {
    pub(super) fn new(text: &'a QueryText, catalog: &'a Catalog) -> Self {
        Self {
            text,
            catalog,
            scopes: Scopes::default(),
            settled: Settled::default(),
            declared: BTreeSet::new(),
            errors: Vec::new(),
        }
    }

    /// What was found, and the names that the query declares: aliases, columns of aliases, parameters of lambdas.
    pub(super) fn finish(self) -> Result<(Settled, BTreeSet<String>), Vec<PlanError>> {
        if self.errors.is_empty() { Ok((self.settled, self.declared)) } else { Err(self.errors) }
    }
}

impl Collect<'_> {
    fn refuse(&mut self, message: impl Into<String>, help: Option<String>, at: Option<&Ident>) {
        let mut error = PlanError::new(self.text.place.clone(), message);
        error.help = help;
        error.position = at.and_then(|ident| self.text.position(ident.span.start.line, ident.span.start.column));
        self.errors.push(error);
    }

    fn refuse_clause(&mut self, clause: Option<&'static str>) {
        let Some(clause) = clause else { return };
        self.refuse(format!("{clause} is not supported"), Some("rewrite the query without it".to_owned()), None);
        if let Some(error) = self.errors.last_mut() {
            let words: Vec<&str> = clause.split(' ').filter(|word| word.chars().all(|c| !c.is_lowercase())).collect();
            error.position = if words.is_empty() { None } else { self.text.find(&words) };
        }
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
        self.refuse_clause(unsupported_in_query(query));
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
        self.refuse_clause(unsupported_in_select(select));
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
        self.refuse_clause(unsupported_in_relation(factor));
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
