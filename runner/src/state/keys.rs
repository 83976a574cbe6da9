//! The index of one instance: from a group's key to its number.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

/// Numbers groups from 0 in the order they are first seen. Two keys are one group exactly when DataFusion's own
/// aggregation says so, because it is DataFusion's own index.
pub(super) enum Keys {
    /// Without key columns everything is one group; false until it was seen.
    One(bool),
    /// By the values of the key columns.
    Many(Box<dyn GroupValues>),
}

impl Keys {
    /// An empty index over columns of this schema.
    pub(super) fn new(schema: &SchemaRef) -> Result<Self> {
        if schema.fields().is_empty() {
            return Ok(Self::One(false));
        }
        Ok(Self::Many(new_group_values(SchemaRef::clone(schema), &GroupOrdering::None)?))
    }

    /// The numbers of the groups of `rows` rows with these keys; new keys get the next numbers.
    pub(super) fn intern(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<usize>) -> Result<()> {
        match self {
            Self::One(seen) => {
                *seen |= rows > 0;
                groups.clear();
                groups.resize(rows, 0);
                Ok(())
            }
            Self::Many(values) => values.intern(keys, groups),
        }
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(seen) => usize::from(*seen),
            Self::Many(values) => values.len(),
        }
    }

    /// The bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(values) => values.size(),
        }
    }
}
