//! The rates that bound a first commit on this machine, each measured alone; `tests/bench` calls it.
//!
//! - `rates cut`: prints the MB/s at which one core cuts random data and hashes the chunks
//! - `rates read FILE…`: reads the files one after another
//! - `rates write FILE MIB`: writes random data and waits until it is on the disk

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Instant;

use fastcdc::v2020::FastCDC;

const MIB: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cut"] => println!("{:.0}", cut(&random(256 * MIB))),
        ["read", ref files @ ..] => files.iter().try_for_each(|file| read(file))?,
        ["write", file, mib] => write(file, mib.parse()?)?,
        _ => return Err("usage: rates cut | read FILE… | write FILE MIB".into()),
    }
    Ok(())
}

/// MB/s of one core with the default chunk sizes of filesync.
fn cut(data: &[u8]) -> f64 {
    // The first round warms up.
    let mut rate = 0.0;
    for _ in 0..2 {
        let started = Instant::now();
        let mut last = None;
        for chunk in FastCDC::new(data, 16 << 10, 64 << 10, 256 << 10) {
            last = Some(blake3::hash(&data[chunk.offset..chunk.offset + chunk.length]));
        }
        std::hint::black_box(last);
        rate = data.len() as f64 / 1e6 / started.elapsed().as_secs_f64();
    }
    rate
}

fn read(file: &str) -> std::io::Result<()> {
    let mut file = File::open(file)?;
    let mut buffer = vec![0; MIB];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

fn write(file: &str, mib: usize) -> std::io::Result<()> {
    let data = random(64 * MIB);
    let mut file = File::create(file)?;
    for block in data.chunks(MIB).cycle().take(mib) {
        file.write_all(block)?;
    }
    file.sync_data()
}

/// Bytes that do not compress, the same in every run (xorshift64*).
fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        data.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    data.truncate(len);
    data
}
