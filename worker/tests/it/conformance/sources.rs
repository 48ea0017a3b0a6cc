//! Values that a device makes itself.
