//! Guests of a few instructions. QEMU loads a raw file at address 0 and starts at the address in the short PSW
//! there (QEMU, hw/s390x/ipl.c); encodings are those of the z/Architecture Principles of Operation.

/// Where the instructions stand.
const CODE: usize = 0x200;
/// Where what they refer to stands: beyond the 8 KiB of lowcore, where a service call takes no control block.
const DATA: usize = 0x2000;
/// `lghi %r2,0x2000`
const POINT_TO_DATA: [u8; 4] = [0xa7, 0x29, 0x20, 0x00];

/// A short PSW, 31-bit addressing, that continues at [`CODE`].
const START: [u8; 8] = [0x00, 0x08, 0x00, 0x00, 0x80, 0x00, 0x02, 0x00];

fn image(code: &[u8], data: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x3000];
    image[..START.len()].copy_from_slice(&START);
    image[CODE..][..code.len()].copy_from_slice(code);
    image[DATA..][..data.len()].copy_from_slice(data);
    image
}

/// Address of the disabled wait of [`panic`].
pub(crate) const PANIC_ADDRESS: u64 = 0xdead;
/// Mask of the disabled wait of [`panic`]: wait, 64-bit addressing is off, 31-bit on, no interruptions.
pub(crate) const PANIC_MASK: u64 = 0x0002_0000_8000_0000;

/// Loads a disabled wait, as Linux does at a panic's end.
pub(crate) fn panic() -> Vec<u8> {
    let psw = [PANIC_MASK.to_be_bytes(), PANIC_ADDRESS.to_be_bytes()].concat();
    image(&[&POINT_TO_DATA[..], &[0xb2, 0xb2, 0x20, 0x00]].concat(), &psw) // lpswe 0(%r2)
}

/// Where [`hang`] runs round.
pub(crate) const HANG_ADDRESS: u64 = CODE as u64;

/// Branches to itself with interruptions off.
pub(crate) fn hang() -> Vec<u8> {
    image(&[0xa7, 0xf4, 0x00, 0x00], &[]) // j .
}

/// Reboots as Linux does: DIAGNOSE 308, subcode 3 (load clear).
pub(crate) fn reboot() -> Vec<u8> {
    image(&[0xa7, 0x19, 0x00, 0x03, 0x83, 0x01, 0x03, 0x08], &[]) // lghi %r1,3; diag %r0,%r1,0x308
}

/// Stops its only CPU, as Linux does to power off: SIGNAL PROCESSOR, order 5, to CPU 0.
const POWER_OFF: [u8; 8] = [0xa7, 0x09, 0x00, 0x00, 0xae, 0x20, 0x00, 0x05]; // lghi %r0,0; sigp %r2,%r0,5

pub(crate) fn power_off() -> Vec<u8> {
    image(&POWER_OFF, &[])
}

/// Writes `text` to the VT220 console and powers off: SERVICE CALL, command "write event data", with one event buffer
/// of type 0x1a (Linux, drivers/s390/char/sclp_vt220.c).
pub(crate) fn print(text: &[u8]) -> Vec<u8> {
    let code = [
        &[0xc0, 0x19, 0x00, 0x76, 0x00, 0x05][..], // iilf %r1,0x00760005
        &POINT_TO_DATA,
        &[0xb2, 0x20, 0x00, 0x12], // servc %r1,%r2
        &POWER_OFF,
    ]
    .concat();
    let event_length = u16::try_from(6 + text.len()).unwrap();
    let control_block =
        [&(8 + event_length).to_be_bytes()[..], &[0; 6], &event_length.to_be_bytes(), &[0x1a, 0, 0, 0], text]
            .concat();
    image(&code, &control_block)
}
