//! What is said at the end of a run: to people as lines, to programs as one JSON object.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::shape::Shape;
use gridloom_worker::wire::BulkTraffic;
use serde_json::{Map, Value, json};

use super::array_text::Corners;
use super::human::{Bytes, Count, Time};
use super::status::bulk;

/// A finished run.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// Of the result.
    pub dtype: DType,
    /// Of the result.
    pub shape: Shape,
    /// What is shown of the result.
    pub corners: Corners,
    /// Where the result went, if anywhere.
    pub output: Option<PathBuf>,
    /// Elements computed over: those of the inputs broadcast together.
    pub elements: u64,
    /// Bytes of all inputs, in compute dtypes.
    pub bytes: u64,
    /// From the submission to the last byte placed.
    pub wall: Duration,
    /// Who computed.
    pub devices: Vec<String>,
    /// What the connections to workers have seen, if there are any.
    pub bulk: Option<BulkTraffic>,
    /// The most memory this process ever held, where the system says.
    pub memory_peak_bytes: Option<u64>,
}

impl Report {
    fn elements_per_second(&self) -> f64 {
        self.elements as f64 / self.seconds()
    }

    fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds()
    }

    /// Never zero, so that rates are numbers.
    fn seconds(&self) -> f64 {
        self.wall.as_secs_f64().max(1e-9)
    }

    /// One object. `values` is the result in C order where it is printed whole, else null.
    pub(super) fn json(&self) -> Value {
        let values = self.corners.whole().map(|values| values.iter().copied().map(json_scalar).collect::<Vec<_>>());
        let mut object = Map::new();
        let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
        set("shape", json!(self.shape.to_vec()));
        set("dtype", json!(self.dtype.name()));
        set("values", json!(values));
        set("summary", json!(self.corners.to_string()));
        set("output", json!(self.output.as_ref().map(|path| path.to_string_lossy())));
        set("seconds", json!(self.wall.as_secs_f64()));
        set("elements", json!(self.elements));
        set("elements_per_second", json!(self.elements_per_second()));
        set("bytes", json!(self.bytes));
        set("bytes_per_second", json!(self.bytes_per_second()));
        set("devices", json!(self.devices));
        set("bulk", json!(self.bulk.as_ref().map(bulk)));
        set("memory_peak_bytes", json!(self.memory_peak_bytes));
        Value::Object(object)
    }
}

/// JSON has no NaN and no infinities: they are strings.
fn json_scalar(value: Scalar) -> Value {
    let float = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string().to_lowercase()) };
    match value {
        Scalar::F32(value) => float(f64::from(value)),
        Scalar::F64(value) => float(value),
        Scalar::I32(value) => json!(value),
        Scalar::U32(value) => json!(value),
        Scalar::I64(value) => json!(value),
        Scalar::U64(value) => json!(value),
        Scalar::Bool(value) => json!(value),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.corners)?;
        writeln!(f, "shape    {}", self.shape)?;
        writeln!(f, "dtype    {}", self.dtype)?;
        if let Some(output) = &self.output {
            writeln!(f, "written  {}", output.display())?;
        }
        let (elements, bytes) = (Count(self.elements as f64), Bytes(self.bytes as f64));
        writeln!(f, "time     {} for {elements} elements, {bytes}", Time(self.wall))?;
        let (elements, bytes) = (Count(self.elements_per_second()), Bytes(self.bytes_per_second()));
        writeln!(f, "rate     {elements} elements/s, {bytes}/s")?;
        write!(f, "devices  {}", self.devices.join(", "))?;
        if let Some(bytes) = self.memory_peak_bytes {
            write!(f, "\nmemory   {} at most", Bytes(bytes as f64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gridloom_worker::block::Block;
    use gridloom_worker::shape::Region;

    use super::*;

    fn report() -> Report {
        let shape = Shape::new(&[2]).unwrap();
        let mut corners = Corners::new(DType::F64, &shape);
        corners.place(&Region::whole(&shape), &Block::from_elements(shape.clone(), &[0.5, f64::NEG_INFINITY]));
        Report {
            dtype: DType::F64,
            shape,
            corners,
            output: Some("a.npy".into()),
            elements: 2_000_000_000,
            bytes: 16_000_000_000,
            wall: Duration::from_secs(2),
            devices: vec!["cpu interpreter".to_owned()],
            bulk: None,
            memory_peak_bytes: Some(300_000_000),
        }
    }

    #[test]
    fn people_get_lines() {
        let expected = "[ 0.5 -inf]\n\nshape    (2,)\ndtype    f64\nwritten  a.npy\n\
            time     2.00 s for 2.00 G elements, 16.0 GB\nrate     1.00 G elements/s, 8.00 GB/s\n\
            devices  cpu interpreter\nmemory   300 MB at most";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn programs_get_one_object() {
        let json = report().json();
        assert_eq!(json["values"], json!([0.5, "-inf"]));
        assert_eq!((&json["shape"], &json["elements_per_second"]), (&json!([2]), &json!(1e9)));
    }
}
