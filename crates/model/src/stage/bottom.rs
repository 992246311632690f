//! The beginning of the chain: pictures and tokens into rows of the language model's width, and these through its first
//! blocks, as far as the cut lies behind some.

use burn::module::Module;
use burn::tensor::{DType, Tensor};
use qtl_codec::Grid as PictureGrid;

use super::BlocksTape;
use super::cells::{context, pick, place};
use super::tower::TowerTape;
use crate::connector::Connector;
use crate::edge::used;
use crate::llm::{Blocks, Cache, TokenEmbedding};
use crate::nn::Named as Renamed;
use crate::params::Named;
use crate::parts::{BLOCKS, CONNECTOR, EMBED_TOKENS, Parts, VISION_TOWER};
use crate::prompts::Prompts;
use crate::recompute::{Graphs, take};
use crate::splice::{Grid, Layout, Spliced};
use crate::vision::VisionTower;

/// What stays with the data: nothing after it has seen a pixel.
#[derive(Module, Debug)]
pub struct Bottom {
    /// Pictures into features.
    pub vision_tower: Renamed<VisionTower>,
    /// Features into the language model's width.
    pub connector: Renamed<Connector>,
    /// Token ids into rows.
    pub embed_tokens: Renamed<TokenEmbedding>,
    /// The blocks before the cut; none where it lies at the language model's input.
    pub blocks: Renamed<Blocks>,
    /// How many blocks of a trained tower keep their graphs.
    #[module(skip)]
    pub tower_graphs: Graphs,
}

/// The pictures of a batch. Tower and connector compute in the type that they have.
#[derive(Debug, Clone)]
pub enum Pictures {
    /// [pictures, 3, side, side].
    Pixels(Tensor<4>),
    /// What the tower makes of them, where that is known already: [pictures, tokens, width]. A tower learns nothing from it.
    Features(Tensor<3>),
}

/// A batch as the bottom takes it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `None` for text only.
    pub pictures: Option<Pictures>,
    /// Ids, labels and layout.
    pub spliced: Spliced,
}

/// Rows of image tokens and of text tokens, or the gradients of these: [rows, channels], 32 bits.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Of image tokens; `None` without pictures.
    pub image: Option<Tensor<2>>,
    /// Of text tokens.
    pub text: Tensor<2>,
}

/// Rows that were made, and wait for their gradient.
pub struct BottomTape {
    tracked: Bottom,
    plain: Renamed<VisionTower>,
    /// In a graph, as far as something is trained.
    rows: Rows,
    tower: Option<TowerTape>,
    blocks: Option<Through>,
}

/// Rows that went through blocks.
struct Through {
    tape: BlocksTape,
    grid: Grid,
    layout: Layout,
    /// Whether a block learns.
    learns: bool,
}

impl Parts for Bottom {}

impl Bottom {
    /// The stage of its parts.
    pub fn new(
        vision_tower: VisionTower,
        connector: Connector,
        embed_tokens: TokenEmbedding,
        blocks: Blocks,
    ) -> Self {
        Self {
            vision_tower: VISION_TOWER.holds(vision_tower),
            connector: CONNECTOR.holds(connector),
            embed_tokens: EMBED_TOKENS.holds(embed_tokens),
            blocks: BLOCKS.holds(blocks),
            tower_graphs: Graphs::NONE,
        }
    }

    /// Rows per picture.
    pub fn tokens_per_picture(&self) -> usize {
        self.connector.tokens(self.vision_tower.feature_tokens())
    }

    /// How the rows of a whole picture lie in it; `None` if a row is no cell of it.
    pub fn picture_grid(&self) -> Option<PictureGrid> {
        let grid = self.vision_tower.grid();
        grid.filter(|_| self.connector.on_grid())
    }

    /// Which of the image rows that [`forward`](Self::forward) makes of a batch are shown in it: before blocks, pictures that
    /// nobody shows have rows as well.
    pub fn shown(&self, spliced: &Spliced) -> Vec<usize> {
        match self.blocks.is_empty() {
            true => spliced.image_rows.clone(),
            false => (0..spliced.image_rows.len()).collect(),
        }
    }

    /// Rows of pictures, before any block: [pictures, 3, side, side] to [pictures x tokens, hidden].
    pub fn look(&self, pixels: Tensor<4>) -> Tensor<2> {
        rows(self.connector.forward(self.vision_tower.forward(pixels)))
    }

    fn features(&self, pictures: &Pictures) -> Tensor<3> {
        match pictures {
            Pictures::Pixels(pixels) => self.vision_tower.forward(pixels.clone()),
            Pictures::Features(features) => features.clone(),
        }
    }

    /// Rows of a batch; see [`shown`](Self::shown).
    pub fn forward(&self, batch: &Batch) -> Rows {
        let rows = self.entering(batch);
        if self.blocks.is_empty() {
            return rows;
        }
        let (cells, grid) = self.cells(rows, &batch.spliced.layout);
        let context = context(&self.blocks, &grid, &cells.device());
        let cells = self.blocks.forward(cells, &context);
        pick(cells.cast(DType::F32), &grid, &batch.spliced.layout)
    }

    /// The same of the prompts of a batch, and what the blocks remember of them.
    pub fn prefill(&self, batch: &Batch, prompts: &Prompts) -> (Rows, Option<Cache>) {
        if self.blocks.is_empty() {
            return (self.forward(batch), None);
        }
        let layout = &batch.spliced.layout;
        let (cells, grid) = self.cells(self.entering(batch), layout);
        let (cells, cache) = self.blocks.read(cells, prompts);
        (pick(cells.cast(DType::F32), &grid, layout), Some(cache))
    }

    /// Rows of one more token for each of the sequences `keep` of the `cache` (the others are finished).
    pub fn step(&self, ids: &[i64], cache: Option<&mut Cache>, keep: &[usize]) -> Tensor<2> {
        let rows = self.embed_tokens.embed(ids);
        let Some(cache) = cache else {
            return rows;
        };
        cache.retain(keep);
        let cells = self.blocks.extend(rows.unsqueeze_dim(1), cache);
        cells.squeeze_dim::<2>(1).cast(DType::F32)
    }

    /// Rows before any block; with blocks, those that are shown.
    fn entering(&self, batch: &Batch) -> Rows {
        let features = batch.pictures.as_ref().map(|p| self.features(p));
        let image = features.map(|features| rows(self.connector.forward(features)));
        Rows {
            image: image.map(|rows| self.shown_of(rows, &batch.spliced)),
            text: self.embed_tokens.embed(&batch.spliced.text_ids),
        }
    }

    fn shown_of(&self, rows: Tensor<2>, spliced: &Spliced) -> Tensor<2> {
        match self.blocks.is_empty() {
            true => rows,
            false => used(rows, &spliced.image_rows),
        }
    }

    /// Rows in their cells, as the blocks read them.
    fn cells(&self, rows: Rows, layout: &Layout) -> (Tensor<3>, Grid) {
        let grid = Grid::new(layout);
        (place(&rows, &grid).cast(self.blocks.activation()), grid)
    }

    /// As [`forward`](Self::forward). Parameters for which `trained` holds get a gradient in [`BottomTape::backward`].
    pub fn train_forward(
        &self,
        batch: &Batch,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Rows, BottomTape) {
        let tracked = self.track(trained);
        let mut tower = None;
        let image = batch.pictures.as_ref().map(|pictures| {
            let own = |name: &str| name.starts_with(VISION_TOWER.prefix) && trained(name);
            let features = match pictures {
                Pictures::Pixels(pixels) if self.learns(&own) => {
                    let (tracked, plain) = (&tracked.vision_tower, &self.vision_tower);
                    let tape = TowerTape::run(tracked, plain, pixels.clone(), self.tower_graphs);
                    let features = tape.features.clone();
                    tower = Some(tape);
                    features
                }
                pictures => self.features(pictures),
            };
            let rows = rows(tracked.connector.forward(features));
            self.shown_of(rows, &batch.spliced)
        });
        let text = tracked.embed_tokens.embed(&batch.spliced.text_ids);
        let rows = Rows {
            image: image.clone().map(Tensor::inner),
            text: text.clone().inner(),
        };
        let (rows, blocks) = match self.blocks.is_empty() {
            true => (rows, None),
            false => {
                let (rows, through) = self.through(rows, &batch.spliced.layout, trained);
                (rows, Some(through))
            }
        };
        let tape = BottomTape {
            tracked,
            plain: self.vision_tower.clone(),
            rows: Rows { image, text },
            tower,
            blocks,
        };
        (rows, tape)
    }

    /// Plain rows through the blocks.
    fn through(
        &self,
        rows: Rows,
        layout: &Layout,
        trained: &dyn Fn(&str) -> bool,
    ) -> (Rows, Through) {
        let (cells, grid) = self.cells(rows, layout);
        let context = context(&self.blocks, &grid, &cells.device());
        let (cells, tape) = self.blocks.train_forward(cells, &context, trained);
        let rows = pick(cells.cast(DType::F32), &grid, layout);
        let through = Through {
            tape,
            grid,
            layout: layout.clone(),
            learns: self.blocks.learns(trained),
        };
        (rows, through)
    }
}

impl BottomTape {
    /// Whether there is anything to learn from the gradient of the rows of pictures, and of text.
    pub fn wants(&self) -> [bool; 2] {
        let image = self.rows.image.as_ref();
        let below = [
            image.is_some_and(Tensor::is_tracked),
            self.rows.text.is_tracked(),
        ];
        match &self.blocks {
            // Behind a block every row depends on rows of both kinds.
            Some(through) => [through.learns || below.contains(&true); 2],
            None => below,
        }
    }

    /// The gradients of the trained parameters are added to `into`, given those of the rows that are wanted.
    ///
    /// One scalar carries everything, since autodiff can walk a graph only once.
    pub fn backward(self, image: Option<Tensor<2>>, text: Option<Tensor<2>>, into: &mut Named) {
        let (image, text) = match (self.blocks, text) {
            (Some(through), Some(text)) => {
                let rows = through.backward(Rows { image, text }, into);
                (rows.image, Some(rows.text))
            }
            (_, text) => (image, text),
        };
        let carried = |rows: Option<Tensor<2>>, g: Option<Tensor<2>>| {
            let rows = rows.filter(Tensor::is_tracked);
            rows.zip(g).map(|(rows, g)| (rows * g).sum())
        };
        let terms = [
            carried(self.rows.image, image),
            carried(Some(self.rows.text), text),
        ];
        let Some(total) = terms.into_iter().flatten().reduce(|a, b| a + b) else {
            return;
        };
        let mut grads = total.backward();
        self.tracked.collect(&mut grads, into);
        if let Some(tape) = self.tower {
            let gradient = take(&tape.features, &mut grads);
            tape.backward(&self.tracked.vision_tower, &self.plain, gradient, into);
        }
    }
}

impl Through {
    /// From the gradient of the rows that came out to that of those that went in.
    fn backward(self, rows: Rows, into: &mut Named) -> Rows {
        let cells = place(&rows, &self.grid).cast(self.tape.dtype());
        let cells = self.tape.backward(cells, into);
        pick(cells.cast(DType::F32), &self.grid, &self.layout)
    }
}

/// [pictures, tokens, width] -> [pictures x tokens, width], in 32 bits as the quantizers want it.
fn rows(features: Tensor<3>) -> Tensor<2> {
    let [pictures, tokens, width] = features.dims();
    features
        .reshape([pictures * tokens, width])
        .cast(DType::F32)
}
