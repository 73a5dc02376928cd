//! VMware guest tools for Talos Linux.

pub mod pb;
