//! The bridge from `tracing` to the log.

use crate::level::Level;
use crate::log::Vlog;
use std::fmt::{Debug, Write};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};

/// A `tracing-subscriber` layer that logs every event whose module's levels allow it.
#[derive(Debug)]
pub struct Layer(pub &'static Vlog);

/// Makes [`Vlog::global`] the process's subscriber. Starts no thread, so a later fork is safe. Does nothing if
/// there is one already.
pub fn init() {
    let _ =
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Layer(Vlog::global())));
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    /// Asked once per call site and level change, then remembered by `tracing`.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.enabled(metadata.target(), Level::from(*metadata.level()))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.max_level() {
            Level::Off | Level::Emer => LevelFilter::OFF,
            Level::Err => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Dbg => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        text.message.push_str(&text.fields);
        let metadata = event.metadata();
        self.0.log(metadata.target(), Level::from(*metadata.level()), &text.message);
    }
}

/// An event's message, and its other fields as ` name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => {
                let _ = write!(self.fields, " {name}={value}");
            }
        }
    }
}
