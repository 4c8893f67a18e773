//! What was seen of the GPUs, as tables and as JSON.

use serde_json::{Value, json};

use crate::catalogue::catalogue;
use crate::cli::args::TableFormat;
use crate::commands::table::Table;
use crate::engine::cuda::inspect::{Connection, GpuReport, Inspection, Link};
use crate::protocol::GpuList;
use crate::sanitize::json_pretty;
use crate::wording::bytes;

/// The first GPUs together: their number, and the heading of what fits them.
const TOGETHER: [(usize, &str); 3] = [(2, "fits cuda:0,1"), (4, "fits cuda:0,1,2,3"), (8, "fits cuda:0,1,2,3,4,5,6,7")];

/// The whole output, as JSON or as text with tables. `utilization`: share of the GPU memory that may be used, 0 to 1.
pub(super) fn shown(seen: &Inspection, utilization: f32, format: TableFormat) -> String {
    let devices = Devices::of(seen, utilization);
    if format == TableFormat::Json {
        return json_pretty(&object(seen, &devices)) + "\n";
    }
    let head = format!(
        "driver {} (CUDA {}); {} or later is needed\n\
         kernels: {}: {}\n\
         models on GPUs: {}, in every format that chatnap reads; others answer on the CPU\n\n",
        seen.driver.as_deref().unwrap_or("unknown"),
        cuda(seen),
        seen.gpus.iter().map(|gpu| gpu.driver_needed).max().unwrap_or_default(),
        seen.kernels,
        seen.targets,
        seen.families
    );
    let tables = [Some(gpus(seen)), connections(seen), Some(models(&devices))];
    let tables: Vec<_> = tables.into_iter().flatten().map(|table| table.render(format, &Value::Null)).collect();
    head + &tables.join("\n")
}

fn cuda(seen: &Inspection) -> String {
    seen.cuda.map_or_else(|| "unknown".into(), |(major, minor)| format!("{major}.{minor}"))
}

fn capability(report: &GpuReport) -> String {
    let (major, minor) = report.properties.compute_capability;
    format!("{major}.{minor}")
}

fn device(ordinal: usize) -> String {
    format!("cuda:{ordinal}")
}

fn gpus(seen: &Inspection) -> Table {
    let mut table = Table::new(&["GPU", "name", "compute", "VRAM", "used", "free", "read bandwidth"]);
    for report in &seen.gpus {
        table.row([
            device(report.properties.ordinal),
            report.properties.name.clone(),
            capability(report),
            bytes(report.properties.total),
            report.used.map(bytes).unwrap_or_else(|| "unknown".into()),
            bytes(report.free),
            match &report.bandwidth {
                Ok(rate) => format!("{:.2} TB/s", rate / 1e12),
                Err(why) => format!("not measured: {why}"),
            },
        ]);
    }
    table
}

/// How the GPUs are connected; `None` with one GPU.
fn connections(seen: &Inspection) -> Option<Table> {
    let measured = seen.connections.iter().any(|connection| connection.exchange.is_some());
    let head = ["connection", "link", "direct access", "exchange"];
    let mut table = Table::new(if measured { &head } else { &head[..3] });
    for connection in &seen.connections {
        let exchange = match &connection.exchange {
            Some(Ok(seconds)) => format!("{:.1} µs", seconds * 1e6),
            Some(Err(why)) => format!("not measured: {why}"),
            None => String::new(),
        };
        let cells = [
            format!("{} – {}", device(connection.a), device(connection.b)),
            match connection.link {
                Some(Link::NvLink(1)) => "NVLink, 1 link".into(),
                Some(Link::NvLink(links)) => format!("NVLink, {links} links"),
                Some(Link::Pcie) => "PCIe".into(),
                None => "unknown".into(),
            },
            if connection.direct { "yes" } else { "no" }.to_owned(),
            exchange,
        ];
        table.row(cells.into_iter().take(if measured { 4 } else { 3 }));
    }
    (!seen.connections.is_empty()).then_some(table)
}

fn models(devices: &Devices) -> Table {
    let together = || TOGETHER.into_iter().filter(|(count, _)| *count <= devices.rooms.len());
    let head = ["model", "weights", "fits cuda:0 with a context of 8192"].into_iter();
    let mut table = Table::new(&head.chain(together().map(|(_, heading)| heading)).collect::<Vec<_>>());
    let word = |fits| if fits { "yes" } else { "no" }.to_owned();
    for (name, size, cpu_only) in sized_models() {
        let first = match cpu_only {
            true => "runs on the CPU alone".to_owned(),
            false => word(devices.hold(&[0], size)),
        };
        let several = together().map(|(count, _)| {
            let places: Vec<_> = (0..count).collect();
            word(!cpu_only && devices.hold(&places, size))
        });
        table.row([name, bytes(size), first].into_iter().chain(several));
    }
    table
}

/// Name, bytes of the weights, and whether there is no GPU code for it, of each variant in the catalogue.
fn sized_models() -> impl Iterator<Item = (String, u64, bool)> {
    let variants = catalogue().models.iter().flat_map(|model| model.variants.iter().map(move |form| (model, form)));
    variants.filter_map(|(model, form)| Some((model.name_of(form), model.size_of(form)?.0, model.cpu_only)))
}

/// The GPUs as places for models.
struct Devices {
    /// Bytes that may be used on each, and its compute capability.
    rooms: Vec<(u64, (i32, i32))>,
}

impl Devices {
    fn of(seen: &Inspection, utilization: f32) -> Self {
        let kept = 1.0 - f64::from(utilization);
        let room = |gpu: &GpuReport| gpu.free.saturating_sub((gpu.properties.total as f64 * kept) as u64);
        Self { rooms: seen.gpus.iter().map(|gpu| (room(gpu), gpu.properties.compute_capability)).collect() }
    }

    /// Whether these GPUs together hold a model with weights of `size` bytes. An estimate: the exact size needs the file's
    /// header and is computed before each load.
    fn hold(&self, places: &[usize], size: u64) -> bool {
        let part = (size + size / 10) / places.len().max(1) as u64 + (2 << 30);
        let kind = places.first().and_then(|place| self.rooms.get(*place)).map(|(_, capability)| *capability);
        places.iter().all(|place| {
            self.rooms.get(*place).is_some_and(|(room, capability)| part <= *room && Some(*capability) == kind)
        })
    }

    /// Each GPU alone, and the first two, four and eight together, as `--device` takes them, that hold the model.
    fn holding(&self, size: u64) -> Vec<String> {
        let count = self.rooms.len();
        let together = TOGETHER.iter().filter(|(wanted, _)| *wanted <= count).map(|(wanted, _)| (0..*wanted).collect());
        let sets = (0..count).map(|place| vec![place]).chain(together).filter(|set| self.hold(set, size));
        sets.filter_map(|set| Some(GpuList::new(&set)?.to_string())).collect()
    }
}

fn object(seen: &Inspection, devices: &Devices) -> Value {
    let card = |report: &GpuReport| {
        json!({
            "device": device(report.properties.ordinal),
            "name": report.properties.name,
            "compute_capability": capability(report),
            "total_bytes": report.properties.total,
            "used_bytes": report.used,
            "free_bytes": report.free,
            "driver_needed": report.driver_needed.to_string(),
            "read_bytes_per_second": report.bandwidth.as_ref().ok(),
        })
    };
    let connection = |connection: &Connection| {
        let (link, links) = match connection.link {
            Some(Link::NvLink(links)) => (Some("NVLink"), Some(links)),
            Some(Link::Pcie) => (Some("PCIe"), None),
            None => (None, None),
        };
        json!({
            "a": device(connection.a),
            "b": device(connection.b),
            "link": link,
            "links": links,
            "direct": connection.direct,
            "exchange_seconds": connection.exchange.as_ref().and_then(|measured| measured.as_ref().ok()),
        })
    };
    let model = |(name, size, cpu_only): (String, u64, bool)| {
        let found = if cpu_only { Vec::new() } else { devices.holding(size) };
        json!({
            "model": name,
            "bytes": size,
            "fits": !cpu_only && devices.hold(&[0], size),
            "fits_devices": found,
        })
    };
    json!({
        "driver": seen.driver,
        "cuda": cuda(seen),
        "kernels": seen.kernels,
        "build_targets": seen.targets,
        "families": seen.families,
        "cards": seen.gpus.iter().map(card).collect::<Vec<_>>(),
        "connections": seen.connections.iter().map(connection).collect::<Vec<_>>(),
        "models": sized_models().map(model).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::engine::cuda::GpuProperties;

    /// GPUs with these gigabytes of memory, of which 1 GB is used.
    fn inspection(gigabytes: &[u64]) -> Inspection {
        let report = |(ordinal, gigabytes): (usize, &u64)| GpuReport {
            properties: GpuProperties {
                ordinal,
                name: "NVIDIA L4".into(),
                compute_capability: (8, 9),
                total: gigabytes * 1_000_000_000,
                multiprocessors: 58,
                shared_limit: 101_376,
                bus_id: format!("0000:0{ordinal}:00.0"),
            },
            used: Some(1_000_000_000),
            free: (gigabytes - 1) * 1_000_000_000,
            bandwidth: Ok(0.3e12),
            driver_needed: 525,
        };
        Inspection {
            driver: Some("580.1".into()),
            cuda: Some((13, 0)),
            targets: "8.0, 8.9".into(),
            kernels: "embedded",
            families: "Llama",
            gpus: gigabytes.iter().enumerate().map(report).collect(),
            connections: Vec::new(),
        }
    }

    fn pair(link: Option<Link>, direct: bool, exchange: Option<Result<f64, String>>) -> Inspection {
        let connections = vec![Connection { a: 0, b: 1, link, direct, exchange }];
        Inspection { connections, ..inspection(&[24, 24]) }
    }

    fn text(seen: &Inspection) -> String {
        shown(seen, 0.9, TableFormat::Table)
    }

    fn parsed(seen: &Inspection) -> Value {
        serde_json::from_str(&shown(seen, 0.9, TableFormat::Json)).unwrap()
    }

    /// The lines of a model in the table, split at the gaps.
    fn cells(text: &str, model: &str) -> Vec<String> {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(model)).unwrap();
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn one_gpu_has_no_connections_and_one_column_of_what_fits() {
        let text = text(&inspection(&[24]));
        let head = "driver 580.1 (CUDA 13.0); 525 or later is needed\nkernels: embedded: 8.0, 8.9\n\
                    models on GPUs: Llama, in every format that chatnap reads; others answer on the CPU\n\n\
                    GPU     name       compute  VRAM     used    free     read bandwidth\n\
                    cuda:0  NVIDIA L4  8.9      24.0 GB  1.0 GB  23.0 GB  0.30 TB/s\n\n\
                    model ";
        assert!(text.starts_with(head), "{text}");
        assert!(!text.contains("connection") && !text.contains("cuda:0,1"), "{text}");
        assert!(text.contains("  weights  fits cuda:0 with a context of 8192\n"), "{text}");
        assert_eq!(cells(&text, "qwen3-8b").split_off(2), ["yes"]);
        assert_eq!(cells(&text, "qwen3-32b").split_off(2), ["no"]);
        assert_eq!(cells(&text, "gemma-3-4b").split_off(2), ["runs on the CPU alone"]);
    }

    #[test]
    fn two_gpus_are_shown_with_their_connection_and_what_fits_both() {
        let text = text(&pair(Some(Link::NvLink(18)), true, None));
        assert!(text.contains("\ncuda:1  NVIDIA L4 "), "{text}");
        let table =
            "\n\nconnection       link              direct access\ncuda:0 – cuda:1  NVLink, 18 links  yes\n\nmodel ";
        assert!(text.contains(table), "{text}");
        assert!(text.contains("fits cuda:0 with a context of 8192  fits cuda:0,1\n"), "{text}");
        assert_eq!(cells(&text, "qwen3-8b").split_off(2), ["yes", "yes"]);
        assert_eq!(cells(&text, "qwen3-32b").split_off(2), ["no", "yes"]);
        assert_eq!(cells(&text, "qwen3-32b:bf16").split_off(2), ["no", "no"]);
        assert_eq!(cells(&text, "gemma-3-4b").split_off(2), ["runs on the CPU alone", "no"]);
    }

    #[test]
    fn each_kind_of_connection_has_its_words() {
        let row = |seen: &Inspection| text(seen).lines().find(|line| line.starts_with("cuda:0 –")).unwrap().to_owned();
        assert!(row(&pair(Some(Link::Pcie), false, None)).ends_with("PCIe  no"));
        assert!(row(&pair(None, true, None)).ends_with("unknown  yes"));
        let measured = pair(Some(Link::NvLink(1)), true, Some(Ok(8.34e-6)));
        assert!(row(&measured).ends_with("NVLink, 1 link  yes            8.3 µs"), "{}", row(&measured));
        let failed = pair(Some(Link::Pcie), false, Some(Err("it is in use".into())));
        assert!(row(&failed).ends_with("PCIe  no             not measured: it is in use"), "{}", row(&failed));
        assert!(text(&failed).contains("direct access  exchange\n"));
    }

    #[test]
    fn json_names_connections_and_the_devices_that_hold_a_model() {
        let object = parsed(&pair(Some(Link::NvLink(18)), true, Some(Ok(0.5))));
        let connection = json!({
            "a": "cuda:0", "b": "cuda:1", "link": "NVLink", "links": 18, "direct": true, "exchange_seconds": 0.5,
        });
        assert_eq!(object["connections"], json!([connection]));
        let fits = |object: &Value, name: &str| {
            let models = object["models"].as_array().unwrap();
            let model = models.iter().find(|model| model["model"] == name).unwrap().clone();
            (model["fits"].clone(), model["fits_devices"].clone())
        };
        assert_eq!(fits(&object, "qwen3-8b"), (json!(true), json!(["cuda:0", "cuda:1", "cuda:0,1"])));
        assert_eq!(fits(&object, "qwen3-32b"), (json!(false), json!(["cuda:0,1"])));
        assert_eq!(fits(&object, "gemma-3-4b"), (json!(false), json!([])));
        let pcie = &parsed(&pair(Some(Link::Pcie), false, None))["connections"][0];
        assert_eq!(
            (&pcie["link"], &pcie["links"], &pcie["exchange_seconds"]),
            (&json!("PCIe"), &Value::Null, &Value::Null)
        );
        let one = parsed(&inspection(&[24]));
        assert_eq!((&one["connections"], fits(&one, "qwen3-8b").1), (&json!([]), json!(["cuda:0"])));
    }

    #[test]
    fn gpus_of_different_kinds_or_sizes_hold_only_what_each_can() {
        let mut mixed = inspection(&[24, 24]);
        mixed.gpus[1].properties.compute_capability = (9, 0);
        assert_eq!(Devices::of(&mixed, 0.9).holding(5_000_000_000), ["cuda:0", "cuda:1"]);
        assert_eq!(Devices::of(&inspection(&[24, 8]), 0.9).holding(5_000_000_000), ["cuda:0", "cuda:0,1"]);
        let four = Devices::of(&inspection(&[24; 4]), 0.9);
        assert_eq!(four.holding(60_000_000_000), ["cuda:0,1,2,3"]);
    }
}
