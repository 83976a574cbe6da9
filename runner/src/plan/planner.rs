//! From the manifest's SQL to plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::ViewTable;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use millrace_crds::{Output, View};

use super::check::{self, Execution};
use super::clock::BatchClock;
use super::describe::{self, Vocabulary};
use super::error::{Place, PlanError};
use super::names::{self, Catalog};
use super::per_batch::PerBatch;
use super::scan::StreamTable;
use super::session::JobSession;
use super::text::QueryText;
use super::whole::Whole;
use super::{Plan, PlanOptions, PlannedOutput, PlannedQuery, PlannedSource, SourceTable};

/// Address space for the stack of a planning; only what it touches is memory. Enough for the deepest tree that a text
/// of the permitted length can parse into, so that [`super::depth`] can look at it.
const STACK: usize = 256 << 20;

/// Plans on a thread of its own: planning recurses over the queries' trees, and neither a deep one nor a panic in a
/// library may take the process with it.
pub(super) async fn plan_apart(
    sources: Vec<SourceTable>,
    views: Vec<View>,
    outputs: Vec<Output>,
    options: PlanOptions,
) -> Result<Plan, Vec<PlanError>> {
    let fault = |reason: String| {
        let place =
            outputs.first().map_or_else(|| Place::Output(String::new()), |output| Place::Output(output.name.clone()));
        vec![PlanError::new(place, format!("the job cannot be planned: {reason}"))]
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let work = {
        let outputs = outputs.clone();
        move || {
            // Nothing in planning waits: its futures are DataFusion's interfaces for catalogs elsewhere.
            sender.send(futures::executor::block_on(plan(sources, &views, &outputs, options))).ok();
        }
    };
    let spawned = std::thread::Builder::new().name("planner".to_owned()).stack_size(STACK).spawn(work);
    if let Err(error) = spawned {
        return Err(fault(format!("no thread for it: {error}")));
    }
    match receiver.await {
        Ok(planned) => planned,
        Err(_) => Err(fault("the planner ended in a panic; its words are on standard error".to_owned())),
    }
}

async fn plan(
    sources: Vec<SourceTable>,
    views: &[View],
    outputs: &[Output],
    options: PlanOptions,
) -> Result<Plan, Vec<PlanError>> {
    let mut planner = Planner::new(&sources, options)?;
    for view in views {
        planner.catalog.announce_view(&view.name);
    }
    for view in views {
        planner.add_view(view).await;
    }
    let mut planned = Vec::with_capacity(outputs.len());
    for output in outputs {
        planned.extend(planner.plan_output(output).await);
    }
    if !planner.errors.is_empty() {
        return Err(planner.errors);
    }
    let sources = sources.into_iter().map(|source| {
        let needed = needed_columns(&source, &planned);
        (source.name, PlannedSource { schema: source.schema, needed })
    });
    Ok(Plan {
        context: planner.session.ctx.task_ctx(),
        session: planner.session,
        whole_clock: planner.whole_clock,
        memory_limit: options.memory_limit,
        sources: sources.collect(),
        outputs: planned,
    })
}

/// The union of what the outputs read of a source. A source that is only counted gives one column all the same, a
/// cheap one: a batch without columns is a case for every stage before this one, and saves nothing.
fn needed_columns(source: &SourceTable, outputs: &[PlannedOutput]) -> Vec<usize> {
    let scans = outputs.iter().flat_map(|output| output.query.scans());
    let scans: Vec<_> = scans.filter(|scan| scan.source.as_ref() == source.name).collect();
    let mut needed: BTreeSet<usize> = scans.iter().flat_map(|scan| scan.columns.iter().copied()).collect();
    if needed.is_empty() && !scans.is_empty() && !source.schema.fields().is_empty() {
        needed.insert(source.schema.index_of("_offset").unwrap_or(0));
    }
    needed.into_iter().collect()
}

struct Planner {
    session: JobSession,
    whole_clock: BatchClock,
    bounded: bool,
    catalog: Catalog,
    views: BTreeMap<String, PlannedView>,
    functions: Vec<String>,
    errors: Vec<PlanError>,
}

/// What is remembered of a view, to find positions in it.
struct PlannedView {
    text: QueryText,
    relations: BTreeSet<String>,
}

impl Planner {
    fn new(sources: &[SourceTable], options: PlanOptions) -> Result<Self, Vec<PlanError>> {
        let internal = |source: &str, error: &DataFusionError| {
            vec![PlanError::new(Place::Source(source.to_owned()), error.strip_backtrace())]
        };
        let session = JobSession::new(options.memory_limit).map_err(|error| internal("", &error))?;
        let mut catalog = Catalog::default();
        for source in sources {
            let table = Arc::new(StreamTable::new(&source.name, Arc::clone(&source.schema)));
            register(&session, &source.name, table).map_err(|error| internal(&source.name, &error))?;
            catalog.add_source(&source.name, Arc::clone(&source.schema));
        }
        let functions = function_names(&session.ctx.state());
        Ok(Self {
            session,
            whole_clock: BatchClock::default(),
            bounded: options.bounded,
            catalog,
            views: BTreeMap::new(),
            functions,
            errors: Vec::new(),
        })
    }

    async fn add_view(&mut self, view: &View) {
        let text = QueryText { place: Place::View(view.name.clone()), sql: view.sql.clone() };
        if self.catalog.contains(&view.name) {
            let error = PlanError::new(text.place, format!("there is a source or view named '{}' already", view.name));
            return self.errors.push(error.with_help("give it another name"));
        }
        match self.plan_view(view, &text).await {
            Ok(Some((schema, relations))) => {
                self.catalog.add_view(&view.name, schema);
                self.views.insert(view.name.clone(), PlannedView { text, relations });
            }
            Ok(None) => self.catalog.add_broken_view(&view.name),
            Err(errors) => {
                self.catalog.add_broken_view(&view.name);
                self.errors.extend(errors);
            }
        }
    }

    /// `None` if it reads a view that could not be planned: that one's errors say all there is to say.
    async fn plan_view(
        &self,
        view: &View,
        text: &QueryText,
    ) -> Result<Option<(SchemaRef, BTreeSet<String>)>, Vec<PlanError>> {
        let Some((plan, relations)) = self.logical_plan(text).await? else { return Ok(None) };
        // Types are checked by the analyzer: here, so that a view's fault is reported as the view's, and once.
        let state = self.session.ctx.state();
        state.optimize(&plan).map_err(|error| self.describe(&error, text, &relations))?;
        let table = Arc::new(ViewTable::new(plan, Some(view.sql.clone())));
        let schema = table.schema();
        register(&self.session, &view.name, table).map_err(|error| self.describe(&error, text, &relations))?;
        Ok(Some((schema, relations)))
    }

    async fn plan_output(&mut self, output: &Output) -> Option<PlannedOutput> {
        match self.try_plan_output(output).await {
            Ok(planned) => planned,
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }

    async fn try_plan_output(&self, output: &Output) -> Result<Option<PlannedOutput>, Vec<PlanError>> {
        let text = QueryText { place: Place::Output(output.name.clone()), sql: output.sql.clone() };
        let execution = check::execution(&output.name, output.mode, self.bounded).map_err(|error| vec![error]);
        let Some((plan, relations)) = self.logical_plan(&text).await? else { return Ok(None) };
        let execution = execution?;
        let texts: Vec<&QueryText> = std::iter::once(&text).chain(self.view_texts(&relations)).collect();
        check::check(&plan, execution, self.bounded, &texts)?;

        let fault = |error: DataFusionError| self.describe(&error, &text, &relations);
        let plan = match execution {
            Execution::PerBatch => plan,
            Execution::Whole => self.whole_clock.rebind(plan).map_err(fault)?,
        };
        let state = self.session.ctx.state();
        let optimized = state.optimize(&plan).map_err(fault)?;
        let physical = state.query_planner().create_physical_plan(&optimized, &state).await.map_err(fault)?;
        let query = match execution {
            Execution::PerBatch => PlannedQuery::PerBatch(PerBatch::new(physical)),
            Execution::Whole => PlannedQuery::Whole(Whole::new(physical)),
        };
        let schema = match &query {
            PlannedQuery::PerBatch(query) => query.schema(),
            PlannedQuery::Whole(query) => query.schema(),
        };
        let logical = optimized.display_indent().to_string();
        Ok(Some(PlannedOutput { name: output.name.clone(), mode: output.mode, schema, logical, query }))
    }

    /// The logical plan of a query as it is written, and the relations it reads.
    async fn logical_plan(&self, text: &QueryText) -> Result<Option<(LogicalPlan, BTreeSet<String>)>, Vec<PlanError>> {
        let mut query = text.parse().map_err(|error| vec![error])?;
        let settled = names::settle(&mut query, text, &self.catalog)?;
        if settled.reads_broken {
            return Ok(None);
        }
        let statement = Statement::Statement(Box::new(ast::Statement::Query(Box::new(query))));
        let planned = self.session.ctx.state().statement_to_plan(statement).await;
        let plan = planned.map_err(|error| self.describe(&error, text, &settled.relations))?;
        unique_columns(&plan, text)?;
        Ok(Some((plan, settled.relations)))
    }

    fn describe(&self, error: &DataFusionError, text: &QueryText, relations: &BTreeSet<String>) -> Vec<PlanError> {
        let vocabulary = Vocabulary {
            columns: self.catalog.columns_of(relations).collect(),
            names: self.catalog.names_of(relations),
            functions: self.functions.iter().map(String::as_str).collect(),
        };
        describe::plan_errors(error, text, &vocabulary)
    }

    /// The texts of the views among `relations` and of those they read.
    fn view_texts<'a>(&'a self, relations: &'a BTreeSet<String>) -> Vec<&'a QueryText> {
        let mut texts = Vec::new();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&str> = relations.iter().map(String::as_str).collect();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name) {
                continue;
            }
            let Some(view) = self.views.get(name) else { continue };
            texts.push(&view.text);
            waiting.extend(view.relations.iter().map(String::as_str));
        }
        texts
    }
}

fn register(session: &JobSession, name: &str, table: Arc<dyn TableProvider>) -> Result<(), DataFusionError> {
    session.ctx.register_table(TableReference::bare(name), table).map(|_| ())
}

fn function_names(state: &SessionState) -> Vec<String> {
    let mut names: BTreeSet<String> = state.scalar_functions().keys().cloned().collect();
    names.extend(state.aggregate_functions().keys().cloned());
    names.extend(state.window_functions().keys().cloned());
    names.extend(["unnest", "explode", "unnest_outer", "explode_outer"].map(str::to_owned));
    names.into_iter().collect()
}

/// A result is a table: no two of its columns may have one name.
fn unique_columns(plan: &LogicalPlan, text: &QueryText) -> Result<(), Vec<PlanError>> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for field in plan.schema().fields() {
        if !seen.insert(field.name().as_str()) {
            let error = PlanError::new(text.place.clone(), format!("two columns are called '{}'", field.name()));
            errors.push(error.with_help("give one of them another name with AS"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
