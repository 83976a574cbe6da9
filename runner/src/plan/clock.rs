//! The batch time: what `now()` and its relatives mean in a job.
//!
//! DataFusion folds `now()` into a constant when it plans, which for a query planned once and run for months would
//! be the moment the job started. A job's clock is the time of its micro-batch instead: the same for every row of
//! the batch, and recorded with the commit, so that a replay computes the same rows.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The functions that read the clock; they are volatile for the optimizer, which must not fold them, but a replay
/// that sets the same batch time gets the same values.
pub(super) const CLOCK_FUNCTIONS: [&str; 2] = ["now", "current_date"];

/// The time zone of every timestamp that has one.
const UTC: &str = "UTC";

/// The batch time of the micro-batch that is running, in microseconds since the epoch.
#[derive(Debug, Clone)]
pub(super) struct BatchClock(Arc<AtomicI64>);

const UNSET: i64 = i64::MIN;

impl Default for BatchClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNSET)))
    }
}

impl BatchClock {
    pub(super) fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Release);
    }

    /// Sets a clock that stands still: only the first time counts.
    pub(super) fn start(&self, micros: i64) {
        self.0.compare_exchange(UNSET, micros, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    /// `now()`, `current_timestamp`, `current_date` and `today()` on this clock.
    pub(super) fn functions(&self) -> [Arc<ScalarUDF>; 2] {
        [Reading::Now, Reading::Today]
            .map(|reading| Arc::new(ScalarUDF::from(ClockFunction::new(self.clone(), reading))))
    }

    /// The same plan, reading this clock: for a query that does not run in step with the micro-batches.
    pub(super) fn rebind(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let functions = self.functions();
        plan.transform_up_with_subqueries(|node| {
            node.map_expressions(|expr| {
                expr.transform_up(|expr| {
                    let Expr::ScalarFunction(called) = &expr else { return Ok(Transformed::no(expr)) };
                    match functions.iter().find(|function| function.name() == called.name()) {
                        Some(mine) => {
                            let call = ScalarFunction::new_udf(Arc::clone(mine), Vec::new());
                            Ok(Transformed::yes(Expr::ScalarFunction(call)))
                        }
                        None => Ok(Transformed::no(expr)),
                    }
                })
            })
        })
        .data()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reading {
    Now,
    Today,
}

#[derive(Debug)]
struct ClockFunction {
    clock: BatchClock,
    reading: Reading,
    aliases: Vec<String>,
    signature: Signature,
}

impl ClockFunction {
    fn new(clock: BatchClock, reading: Reading) -> Self {
        let alias = match reading {
            Reading::Now => "current_timestamp",
            Reading::Today => "today",
        };
        Self { clock, reading, aliases: vec![alias.to_owned()], signature: Signature::nullary(Volatility::Volatile) }
    }
}

// Two functions are the same if they read the same thing from the same clock.
impl PartialEq for ClockFunction {
    fn eq(&self, other: &Self) -> bool {
        self.reading == other.reading && Arc::ptr_eq(&self.clock.0, &other.clock.0)
    }
}

impl Eq for ClockFunction {}

impl Hash for ClockFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.reading.hash(state);
        Arc::as_ptr(&self.clock.0).hash(state);
    }
}

impl ScalarUDFImpl for ClockFunction {
    fn name(&self) -> &str {
        match self.reading {
            Reading::Now => "now",
            Reading::Today => "current_date",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.reading {
            Reading::Now => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Reading::Today => DataType::Date32,
        })
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        const MICROS_A_DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let micros = self.clock.get();
        Ok(ColumnarValue::Scalar(match self.reading {
            Reading::Now => ScalarValue::TimestampMicrosecond(Some(micros), Some(UTC.into())),
            Reading::Today => ScalarValue::Date32(i32::try_from(micros.div_euclid(MICROS_A_DAY)).ok()),
        }))
    }
}
