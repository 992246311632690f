//! The receiver's half: codes into rows in their cells, and the gradient of the cells into what goes back.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qtl_codec::{Code, Plane};

use super::{Cut, Returns, StepError, ids, repeats};
use crate::connector::Connector;
use crate::finite;
use crate::llm::TokenEmbedding;
use crate::nn::Named as Renamed;
use crate::params::Named;
use crate::parts::{Parts, QUANTIZER_IMAGE, QUANTIZER_TEXT};
use crate::quant::{Decoder, Kept};
use crate::recompute::{leaf, pull, take};
use crate::splice::{Grid, Kind, Layout};

/// The receiver's halves of both quantizers.
#[derive(Module, Debug)]
pub struct Receiver {
    /// Of image rows.
    pub image: Renamed<Decoder>,
    /// Of text rows.
    pub text: Renamed<Decoder>,
    /// Where it is the receiver's: from image rows as they cross, the tower's features, to the language model's width.
    pub connector: Option<Renamed<Connector>>,
    /// Which gradients go back.
    #[module(skip)]
    pub returns: Returns,
    /// Where text crosses as token ids: the rows of all tokens. It is a copy, never trained or saved, and so no part of the half.
    #[module(skip)]
    pub table: Option<TokenEmbedding>,
}

/// Dequantized rows: the leaves of the receiver's graph.
pub struct Received {
    image: Option<Tensor<2>>,
    text: Tensor<2>,
    /// Per text row its row of `text`; `None` if they are the same.
    index: Option<Vec<usize>>,
    /// Which entries of each row's gradient go back; `None` for all.
    kept: [Option<Kept>; 2],
}

/// Gradients of image rows and of text rows, those of them that [go back](Returns).
pub type Gradients = [Option<Tensor<2>>; 2];

/// Rows that were put in their cells, and wait for the gradient of these.
pub struct ReceiverTape {
    tracked: Receiver,
    received: Received,
    cells: Tensor<3>,
}

impl Parts for Receiver {}

impl Receiver {
    /// The two halves.
    pub fn new(image: Decoder, text: Decoder) -> Self {
        Self {
            image: QUANTIZER_IMAGE.holds(image),
            text: QUANTIZER_TEXT.holds(text),
            connector: None,
            returns: Returns::default(),
            table: None,
        }
    }

    /// Channels of image rows and of text rows as the sender has them, in front of a language model of this width.
    pub fn widths(&self, hidden: usize) -> [usize; 2] {
        let connector = self.connector.as_ref();
        [connector.map_or(hidden, |c| c.spec().input), hidden]
    }

    /// Reads the codes of a cut.
    ///
    /// # Errors
    ///
    /// [`StepError`] if they and the layout do not belong together, or hold what is no finite number.
    pub fn dequantize(&self, cut: &Cut, device: &Device) -> Result<Received, StepError> {
        let read = |stream, decoder: &Decoder, code: &Code| {
            let leaf = decoder.dequantize(code, device);
            known(
                stream,
                code,
                leaf.map_err(|source| StepError::Code { stream, source })?,
            )
        };
        let count = |stream, layout, leaf: Tensor<2>| match leaf.dims()[0] {
            code if code == layout => Ok(leaf),
            code => Err(StepError::Rows {
                stream,
                layout,
                code,
            }),
        };
        let image = match &cut.image {
            Some(code) => {
                let leaf = read("image", &self.image, code)?;
                Some(count("image", cut.layout.rows(Kind::Image), leaf)?)
            }
            None => match cut.layout.rows(Kind::Image) {
                0 => None,
                layout => {
                    return Err(StepError::Rows {
                        stream: "image",
                        layout,
                        code: 0,
                    });
                }
            },
        };
        let rows = cut.layout.rows(Kind::Text);
        if rows == 0 {
            return Err(StepError::Empty { what: "text row" });
        }
        let text = match &self.table {
            Some(table) => looked_up(table, &cut.text)?,
            None => read("text", &self.text, &cut.text)?,
        };
        let of_text = self.table.is_none().then(|| self.text.kept(&cut.text));
        let kept = [
            cut.image.as_ref().and_then(|code| self.image.kept(code)),
            of_text.flatten(),
        ];
        let (text, index) = match &cut.index {
            None => (count("text", rows, text)?, None),
            Some(index) => {
                let index = repeats::decode(index, text.dims()[0], rows)?;
                (text, Some(index))
            }
        };
        Ok(Received {
            image,
            text,
            index,
            kept,
        })
    }

    /// Rows of single tokens, for generation: what [`Sender::encode_tokens`](super::Sender::encode_tokens) wrote for so many
    /// sequences. `width` is that of the language model.
    ///
    /// # Errors
    ///
    /// [`StepError`] as for [`dequantize`](Self::dequantize).
    pub fn tokens(
        &self,
        code: &Code,
        sequences: usize,
        width: usize,
        device: &Device,
    ) -> Result<Tensor<2>, StepError> {
        let Some(table) = &self.table else {
            return tokens("text", &self.text, code, sequences, width, device);
        };
        match looked_up(table, code)? {
            rows if rows.dims()[0] == sequences => Ok(rows),
            rows => Err(StepError::Rows {
                stream: "text",
                layout: sequences,
                code: rows.dims()[0],
            }),
        }
    }

    /// Expands the rows and puts each in its cell; padding cells get a row of zeros. [sequences, longest, hidden] in
    /// `activation`.
    pub fn assemble(&self, received: &Received, grid: &Grid, activation: DType) -> Tensor<3> {
        let text = match self.table {
            Some(_) => received.text.clone(),
            None => self.text.expand(received.text.clone()),
        };
        let [distinct, width] = text.dims();
        let device = text.device();
        let mut parts = Vec::with_capacity(3);
        let image = received.image.clone();
        parts.extend(image.map(|leaf| self.pictured(leaf, activation)));
        parts.push(text);
        parts.push(Tensor::zeros([1, width], &device));
        // The grid counts all text rows; where fewer have crossed, its numbers are looked up.
        let images = received.image.as_ref().map_or(0, |leaf| leaf.dims()[0]);
        let row = |row: usize| match &received.index {
            Some(index) if row >= images => images + index.get(row - images).unwrap_or(&distinct),
            _ => row,
        };
        let source: Vec<i64> = grid.source.iter().map(|cell| row(*cell) as i64).collect();
        let source = Tensor::<1, Int>::from_data(TensorData::from(source.as_slice()), &device);
        Tensor::cat(parts, 0)
            .select(0, source)
            .reshape([grid.height, grid.width, width])
            .cast(activation)
    }

    /// Image rows of the language model's width. A connector that is here computes as the tower does, and maps each row for itself.
    fn pictured(&self, leaf: Tensor<2>, activation: DType) -> Tensor<2> {
        let rows = self.image.expand(leaf);
        match &self.connector {
            None => rows,
            // burn cannot reshape what has no rows.
            Some(connector) if rows.dims()[0] == 0 => {
                Tensor::zeros([0, connector.spec().output], &rows.device())
            }
            Some(connector) => {
                let rows = connector.forward(rows.cast(activation).unsqueeze_dim(0));
                rows.squeeze_dim::<2>(0).cast(DType::F32)
            }
        }
    }

    /// The same, plain. Parameters for which `trained` holds get a gradient in [`ReceiverTape::backward`].
    pub fn train_forward(
        &self,
        received: Received,
        grid: &Grid,
        activation: DType,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Tensor<3>, ReceiverTape) {
        let tracked = self.track(trained);
        let begin = |rows: Tensor<2>, returns| if returns { leaf(rows) } else { rows };
        let received = Received {
            image: received.image.map(|rows| begin(rows, self.returns.image)),
            text: begin(received.text, self.returns.text),
            ..received
        };
        let cells = tracked.assemble(&received, grid, activation);
        let tape = ReceiverTape {
            tracked,
            received,
            cells: cells.clone(),
        };
        (cells.inner(), tape)
    }
}

impl ReceiverTape {
    /// From the gradient of the cells to those of the rows that were received. Gradients of parameters are added to `into`.
    ///
    /// # Errors
    ///
    /// [`StepError::NotFinite`] naming the sequence of `layout`.
    pub fn backward(
        self,
        gradient: Tensor<3>,
        layout: &Layout,
        into: &mut Named,
    ) -> Result<Gradients, StepError> {
        if !self.cells.is_tracked() {
            return Ok(self.nothing());
        }
        let mut grads = pull(self.cells, gradient);
        self.tracked.collect(&mut grads, into);
        let leaves = [self.received.image, Some(self.received.text)];
        let rows = leaves.map(|leaf| {
            let leaf = leaf.filter(Tensor::is_tracked)?;
            Some(take(&leaf, &mut grads))
        });
        check(&rows, layout, self.received.index.as_deref())?;
        Ok(thin(rows, self.received.kept))
    }

    /// What [`backward`](Self::backward) gives where nothing depends on the cells.
    pub fn nothing(self) -> Gradients {
        let leaves = [self.received.image, Some(self.received.text)];
        let rows = leaves.map(|leaf| {
            let leaf = leaf.filter(Tensor::is_tracked)?;
            Some(leaf.inner().zeros_like())
        });
        thin(rows, self.received.kept)
    }
}

/// Checks that the gradients of the rows are finite. `index`: per text row its row of `text`.
fn check(
    [image, text]: &Gradients,
    layout: &Layout,
    index: Option<&[usize]>,
) -> Result<(), StepError> {
    let image = image.as_ref().and_then(finite::first);
    let image = image.map(|place| (Kind::Image, place, place.row));
    let text = text.as_ref().and_then(finite::first);
    let text = text.map(|place| {
        let shown = index.and_then(|rows| rows.iter().position(|row| *row == place.row));
        (Kind::Text, place, shown.unwrap_or(place.row))
    });
    let Some((kind, place, row)) = image.or(text) else {
        return Ok(());
    };
    Err(StepError::NotFinite {
        what: match kind {
            Kind::Image => "gradient of the image rows",
            Kind::Text => "gradient of the text rows",
        },
        sequence: layout.sequence_of(kind, row),
        value: place.value.to_string(),
    })
}

/// Leaves out the entries of the gradients that the sender's backward does not read.
fn thin([image, text]: Gradients, kept: [Option<Kept>; 2]) -> Gradients {
    let thin = |g: Option<Tensor<2>>, kept: Option<Kept>| match kept {
        Some(kept) => g.map(|g| kept.take(g)),
        None => g,
    };
    let [of_image, of_text] = kept;
    [thin(image, of_image), thin(text, of_text)]
}

/// The rows of the token ids in a code.
fn looked_up(table: &TokenEmbedding, code: &Code) -> Result<Tensor<2>, StepError> {
    Ok(table.embed(&ids::read(code, table.vocab_size())?))
}

/// Rows of single tokens; see [`Receiver::tokens`].
pub(super) fn tokens(
    stream: &'static str,
    quantizer: &Decoder,
    code: &Code,
    sequences: usize,
    width: usize,
    device: &Device,
) -> Result<Tensor<2>, StepError> {
    // A quantizer whose statistics are those of a batch cannot code a single token.
    let (leaf, plain) = match quantizer.dequantize(code, device) {
        Ok(leaf) => (leaf, false),
        Err(source) => match crate::quant::from_f16(code, width, device) {
            Ok(rows) => (rows, true),
            Err(_) => return Err(StepError::Code { stream, source }),
        },
    };
    let rows = leaf.dims()[0];
    if rows != sequences {
        return Err(StepError::Rows {
            stream,
            layout: sequences,
            code: rows,
        });
    }
    let leaf = known(stream, code, leaf)?;
    Ok(if plain { leaf } else { quantizer.expand(leaf) })
}

/// The leaf of `code`, if its values are finite. Only scalars can make them anything else.
pub(super) fn known(
    stream: &'static str,
    code: &Code,
    leaf: Tensor<2>,
) -> Result<Tensor<2>, StepError> {
    let scalars = code
        .planes
        .iter()
        .any(|plane| matches!(plane, Plane::Scalars(_)));
    match scalars.then(|| finite::first(&leaf)).flatten() {
        None => Ok(leaf),
        Some(place) => Err(StepError::Feature {
            stream,
            row: place.row,
            channel: place.channel,
            value: place.value.to_string(),
        }),
    }
}
