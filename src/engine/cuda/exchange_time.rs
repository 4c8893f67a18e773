//! Measures how long an exchange between two GPUs takes, which a model on several GPUs does twice in each layer.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{DeviceBuffer, Event, Gpu, GpuProperties, Graph, LaunchConfig};
use super::exchange::{Exchange, Peers, Places};
use super::exchange_test::works;
use super::kernels::Kernels;
use super::load::{Card, Opened};
use super::params::{ProbeArgs, StepArgs};
use super::split::Share;
use super::tuning::Tuning;
use crate::engine::error::ModelError;

/// Numbers of an exchange: the width of Llama 3.1 70B.
const WIDTH: usize = 8192;
/// Exchanges of a step of that model.
const EXCHANGES: usize = 160;
const STEPS: usize = 20;
const THREADS: u32 = 512;

/// The time of one exchange of 8192 numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExchangeTime {
    /// Of a kernel that does nothing else.
    pub kernel: Duration,
    /// Of the exchange alone: `kernel` without the same kernel's time for one GPU.
    pub exchange: Duration,
    /// Whether the GPUs write to each other's memory, rather than to the host's.
    pub direct: bool,
}

/// One GPU of the measurement. Fields drop in order.
struct Side {
    together: Graph,
    alone: Graph,
    peers: Peers,
    /// What the graphs' kernels add to.
    _x: DeviceBuffer<f32>,
    card: Card,
}

impl Side {
    fn new(card: Card, exchange: &Arc<Exchange>, rank: usize) -> Result<Self, ModelError> {
        card.gpu.activate()?;
        let peers = Peers::new(&card.gpu, Arc::clone(exchange), Share { rank, ranks: 2 })?;
        let x = DeviceBuffer::<f32>::new(WIDTH)?;
        x.fill(&card.gpu, 0)?;
        card.gpu.synchronize()?;
        let graph = |alone| card.gpu.capture(|| launch(&card.gpu, &card.kernels, &peers, x.pointer(), alone));
        let (together, alone) = (graph(false)?, graph(true)?);
        Ok(Self { together, alone, peers, _x: x, card })
    }

    /// Seconds of a kernel, by the GPU's clock: the median of the steps, as a step may wait for the other side's launch.
    /// Both sides call it at the same time.
    fn time(&mut self, alone: bool) -> Result<f64, ModelError> {
        let gpu = &self.card.gpu;
        gpu.activate()?;
        let graph = if alone { &self.alone } else { &self.together };
        let marks = (0..=STEPS).map(|_| Event::new(true)).collect::<Result<Vec<_>, _>>()?;
        self.peers.meet()?;
        for mark in &marks {
            graph.launch(gpu)?;
            mark.record(gpu.stream)?;
        }
        marks[STEPS].wait()?;
        let mut times = marks.windows(2).map(|pair| pair[1].since(&pair[0])).collect::<Result<Vec<_>, _>>()?;
        times.sort_by(f32::total_cmp);
        Ok(f64::from(times[STEPS / 2]) / 1e3 / EXCHANGES as f64)
    }
}

/// Launches the exchanges of a step.
fn launch(gpu: &Gpu, kernels: &Kernels, peers: &Peers, x: u64, alone: bool) -> Result<(), ModelError> {
    let Some(kernels) = &kernels.parallel else { return Ok(()) };
    let overlap = Tuning::for_capability(gpu.properties.compute_capability).overlap;
    let step = StepArgs { link: peers.link(), index: EXCHANGES as i32 + 2, ..StepArgs::default() };
    let one = LaunchConfig { overlap, ..LaunchConfig::linear(1, 32) };
    // SAFETY: the exchange memory has room for WIDTH numbers of both ranks; `x` has as many.
    unsafe { kernels.advance_epoch.launch(gpu.stream, one, &step)? };
    let blocks = (WIDTH / 2).div_ceil(THREADS as usize) as u64;
    let shape = LaunchConfig { overlap, ..LaunchConfig::linear(blocks, THREADS) };
    for index in 1..=EXCHANGES as i32 {
        let args = ProbeArgs {
            link: peers.link(),
            x,
            width: WIDTH as i32,
            index,
            alone: i32::from(alone),
            ..ProbeArgs::default()
        };
        // SAFETY: as above.
        unsafe { kernels.probe_exchange.launch(gpu.stream, shape, &args)? };
    }
    Ok(())
}

/// Measures it. Blocks while a model is loaded on a GPU: this needs contexts of this process, which it destroys at the end.
pub fn measure(a: &GpuProperties, b: &GpuProperties) -> Result<ExchangeTime, ModelError> {
    let mut cards = Opened::new(vec![a.clone(), b.clone()])?.into_cards();
    let tuning = Tuning::for_capability(a.compute_capability);
    let exchange =
        Exchange::new(&cards.gpus(), Places::new(2, WIDTH, 0, 64), tuning, |made| works(&cards.with_kernels(), made))?;
    let (Some(second), Some(first)) = (cards.take_last(), cards.take_last()) else {
        return Err(ModelError::Invalid("two GPUs are needed".into()));
    };
    let (mut first, mut second) = (Side::new(first, &exchange, 0)?, Side::new(second, &exchange, 1)?);
    let mut both = |alone: bool| -> Result<f64, ModelError> {
        let stop = |_: &ModelError| exchange.stop();
        let (first, second) = (&mut first, &mut second);
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(move || second.time(alone).inspect_err(stop));
            (first.time(alone).inspect_err(stop), other.join())
        });
        let other = other.unwrap_or_else(|_| Err(ModelError::Invalid("a thread of the measurement ended".into())))?;
        exchange.check()?;
        Ok(one?.max(other))
    };
    let (together, alone) = (both(false), both(true));
    let direct = exchange.is_direct();
    // Each side drops its own part of the exchange, before the last reference unmaps it and the contexts end.
    let (first, second) = (first.leave()?, second.leave()?);
    drop(exchange);
    drop(second);
    drop(first);
    let (together, alone) = (together?, alone?);
    Ok(ExchangeTime {
        kernel: Duration::from_secs_f64(together),
        exchange: Duration::from_secs_f64((together - alone).max(0.0)),
        direct,
    })
}

impl Side {
    /// Drops everything but the context.
    fn leave(self) -> Result<Card, ModelError> {
        let Self { together, alone, peers, _x: x, card } = self;
        card.gpu.activate()?;
        card.gpu.synchronize()?;
        drop((together, alone, peers, x));
        Ok(card)
    }
}
