//! Sums of floating-point numbers that do not depend on the order of the rows.
//!
//! A sum in `f64` changes in its last digits with the order of its terms, and so with the number of threads and workers. These
//! aggregates carry the rounding errors along, so that the result is the same however the rows are cut into tasks.
//! They stand in place of DataFusion's `sum`, `avg`, `var` and `stddev`, and leave all other types to them.

mod many_groups;
mod moments;
mod one_group;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::stddev::stddev_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_aggregate::variance::var_samp_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

use self::many_groups::ManyGroups;
pub(crate) use self::moments::Statistic;
use self::one_group::OneGroup;

/// An aggregate that is exact for `f64`, and DataFusion's own for all else.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactAggregate {
    stock: Arc<AggregateUDF>,
    statistic: Statistic,
}

/// The aggregates, to be registered in place of DataFusion's.
pub(crate) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    [Statistic::Sum, Statistic::Mean, Statistic::Variance, Statistic::Deviation].map(aggregate).into()
}

/// One of the aggregates.
pub(crate) fn aggregate(statistic: Statistic) -> Arc<AggregateUDF> {
    let stock = match statistic {
        Statistic::Sum => sum_udaf(),
        Statistic::Mean => avg_udaf(),
        Statistic::Variance => var_samp_udaf(),
        Statistic::Deviation => stddev_udaf(),
    };
    Arc::new(AggregateUDF::from(ExactAggregate { stock, statistic }))
}

impl ExactAggregate {
    fn is_exact(fields: &[FieldRef], distinct: bool) -> bool {
        !distinct && fields.first().is_some_and(|field| *field.data_type() == DataType::Float64)
    }
}

impl AggregateUDFImpl for ExactAggregate {
    fn name(&self) -> &str {
        self.stock.name()
    }

    fn aliases(&self) -> &[String] {
        self.stock.aliases()
    }

    fn signature(&self) -> &Signature {
        self.stock.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.stock.return_type(arg_types)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.stock.coerce_types(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !Self::is_exact(args.input_fields, args.is_distinct) {
            return self.stock.state_fields(args);
        }
        let field =
            |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        let mut fields = vec![
            field("count", DataType::UInt64),
            field("sum", DataType::Float64),
            field("sum_error", DataType::Float64),
        ];
        if self.statistic.needs_squares() {
            fields.push(field("squares", DataType::Float64));
            fields.push(field("squares_error", DataType::Float64));
        }
        Ok(fields)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if Self::is_exact(args.expr_fields, args.is_distinct) {
            Ok(Box::new(OneGroup::new(self.statistic)))
        } else {
            self.stock.accumulator(args)
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.stock.create_sliding_accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        Self::is_exact(args.expr_fields, args.is_distinct) || self.stock.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if Self::is_exact(args.expr_fields, args.is_distinct) {
            Ok(Box::new(ManyGroups::new(self.statistic)))
        } else {
            self.stock.create_groups_accumulator(args)
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> datafusion::logical_expr::utils::AggregateOrderSensitivity {
        datafusion::logical_expr::utils::AggregateOrderSensitivity::Insensitive
    }
}
