//! An operation of our own as one node of burn's graph.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Tensor, TensorData};

type Tracked = FloatTensor<Autodiff<Flex>>;

/// An operation on `N` tensors.
pub(crate) trait Operation<const N: usize>: Send + std::fmt::Debug + 'static {
    /// What the backward pass needs.
    type Kept: Clone + Send + std::fmt::Debug + 'static;

    /// The result.
    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Kept);

    /// The result where no backward pass will follow.
    fn plain(&self, inputs: [FlexTensor; N]) -> FlexTensor {
        self.forward(inputs).0
    }

    /// The gradients of the inputs that are `wanted`, given that of the result.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// An input or result, of any rank.
#[derive(Debug)]
pub(crate) enum Value {
    /// Outside of a graph.
    Plain(FlexTensor),
    /// In a graph.
    Tracked(Tracked),
}

impl Value {
    /// The tensor as an input, if it is one of 32 bits on the CPU.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        if x.dtype() != DType::F32 {
            return None;
        }
        let x = x.clone();
        if x.is_autodiff() {
            let tracked = x.try_into_primitive::<Autodiff<Flex>>();
            tracked.ok().map(Self::Tracked)
        } else {
            x.try_into_primitive::<Flex>().ok().map(Self::Plain)
        }
    }

    /// Its sizes.
    pub(crate) fn shape(&self) -> burn::tensor::Shape {
        match self {
            Self::Plain(x) => x.layout().shape().clone(),
            Self::Tracked(x) => x.primitive().layout().shape().clone(),
        }
    }

    /// As a tensor again.
    pub(crate) fn tensor<const D: usize>(self) -> Tensor<D> {
        match self {
            Self::Plain(x) => Tensor::from_primitive::<Flex>(x),
            Self::Tracked(x) => Tensor::from_primitive::<Autodiff<Flex>>(x),
        }
    }
}

#[derive(Debug)]
struct Step<O>(O);

impl<const N: usize, O: Operation<N>> Backward<Flex, N> for Step<O> {
    type State = O::Kept;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let own = self.0.backward(ops.state, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(own) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Computes the operation, in the graph if an input is in it.
pub(crate) fn apply<const N: usize, O: Operation<N>>(operation: O, inputs: [Value; N]) -> Value {
    if inputs.iter().all(|x| matches!(x, Value::Plain(_))) {
        let plain = inputs.map(|x| match x {
            Value::Plain(x) => x,
            Value::Tracked(x) => x.into_primitive(),
        });
        return Value::Plain(operation.plain(plain));
    }
    let tracked = inputs.map(|x| match x {
        Value::Plain(x) => Tracked::new(x),
        Value::Tracked(x) => x,
    });
    let nodes = tracked.each_ref().map(Tracked::node);
    let (result, kept) = operation.forward(tracked.map(Tracked::into_primitive));
    let prepared = Step(operation).prepare::<NoCheckpointing>(nodes);
    Value::Tracked(match prepared.compute_bound().stateful() {
        OpsKind::Tracked(graph) => graph.finish(kept, result),
        OpsKind::UnTracked(graph) => graph.finish(result),
    })
}

/// The same numbers one after another.
pub(crate) fn dense(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() {
        x
    } else {
        x.to_contiguous()
    }
}

/// The same numbers one after another, in storage that nobody else holds: they may be written over.
pub(crate) fn owned(x: FlexTensor) -> FlexTensor {
    let x = dense(x);
    let (layout, stored) = (x.layout(), x.storage::<f32>().len());
    let whole = layout.start_offset() == 0 && stored == layout.num_elements();
    match whole && x.is_unique() {
        true => x,
        false => shaped(numbers(&x).to_vec(), &x),
    }
}

/// The numbers of a tensor that [`dense`] returned.
pub(crate) fn numbers(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("dense and of 32 bits")
}

/// A tensor of the shape of `like`.
pub(crate) fn shaped(numbers: Vec<f32>, like: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, like.layout().shape().clone()))
}
