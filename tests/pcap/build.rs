//! Capture files made field by field, in either byte order, so that the reader is not tested by our own
//! writer alone.

/// A file under construction.
pub struct File {
    pub bytes: Vec<u8>,
    big: bool,
}

impl File {
    pub fn new(big: bool) -> Self {
        File {
            bytes: Vec::new(),
            big,
        }
    }

    fn u16(&self, v: u16) -> [u8; 2] {
        if self.big {
            v.to_be_bytes()
        } else {
            v.to_le_bytes()
        }
    }

    fn u32(&self, v: u32) -> [u8; 4] {
        if self.big {
            v.to_be_bytes()
        } else {
            v.to_le_bytes()
        }
    }

    /// pcap's file header.
    pub fn pcap(big: bool, nanos: bool, snaplen: u32, network: u32) -> Self {
        let mut f = File::new(big);
        let magic = f.u32(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 });
        let (two, four) = (f.u16(2), f.u16(4));
        let parts: [&[u8]; 6] = [
            &magic,
            &two,
            &four,
            &[0; 8],
            &f.u32(snaplen),
            &f.u32(network),
        ];
        f.bytes = parts.concat();
        f
    }

    /// One packet of a pcap.
    pub fn pcap_packet(mut self, s: u32, fraction: u32, data: &[u8], orig_len: u32) -> Self {
        for v in [s, fraction, data.len() as u32, orig_len] {
            let v = self.u32(v);
            self.bytes.extend(v);
        }
        self.bytes.extend(data);
        self
    }

    pub fn block(mut self, kind: u32, body: &[u8]) -> Self {
        let body_len = body.len().next_multiple_of(4);
        let len = self.u32(12 + body_len as u32);
        let kind = self.u32(kind);
        self.bytes.extend(kind);
        self.bytes.extend(len);
        self.bytes.extend(body);
        self.bytes
            .resize(self.bytes.len() + body_len - body.len(), 0);
        self.bytes.extend(len);
        self
    }

    /// A section header; what follows is in the section's order.
    pub fn section(mut self, big: bool) -> Self {
        self.big = big;
        let body = [
            &self.u32(0x1a2b_3c4d)[..],
            &self.u16(1),
            &self.u16(0),
            &[0xff; 8],
        ]
        .concat();
        self.block(0x0a0d_0d0a, &body)
    }

    pub fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut o = [&self.u16(code)[..], &self.u16(value.len() as u16), value].concat();
        o.resize(o.len().next_multiple_of(4), 0);
        o
    }

    pub fn interface(self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Self {
        let mut body = [&self.u16(link)[..], &[0, 0], &self.u32(snaplen)].concat();
        body.extend(
            options
                .iter()
                .flat_map(|(code, value)| self.option(*code, value)),
        );
        self.block(1, &body)
    }

    pub fn packet(
        self,
        interface: u32,
        time: u64,
        data: &[u8],
        orig_len: u32,
        options: &[(u16, &[u8])],
    ) -> Self {
        let fields = [
            interface,
            (time >> 32) as u32,
            time as u32,
            data.len() as u32,
            orig_len,
        ];
        let mut body: Vec<u8> = fields.iter().flat_map(|v| self.u32(*v)).collect();
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(
            options
                .iter()
                .flat_map(|(code, value)| self.option(*code, value)),
        );
        self.block(6, &body)
    }

    /// The obsolete packet block: a 16-bit interface and a drop count.
    pub fn old_packet(self, interface: u16, time: u64, data: &[u8], orig_len: u32) -> Self {
        let mut body = [self.u16(interface), self.u16(7)].concat();
        let fields = [
            (time >> 32) as u32,
            time as u32,
            data.len() as u32,
            orig_len,
        ];
        body.extend(fields.iter().flat_map(|v| self.u32(*v)));
        body.extend(data);
        self.block(2, &body)
    }

    pub fn simple_packet(self, orig_len: u32, data: &[u8]) -> Self {
        let body = [&self.u32(orig_len)[..], data].concat();
        self.block(3, &body)
    }

    /// 32 bits in this section's order, for option values.
    pub fn word(&self, v: u32) -> Vec<u8> {
        self.u32(v).to_vec()
    }

    /// 64 bits in this section's order, for option values.
    pub fn long(&self, v: i64) -> Vec<u8> {
        if self.big {
            v.to_be_bytes().to_vec()
        } else {
            v.to_le_bytes().to_vec()
        }
    }
}

/// Options shared by several tests.
pub const COMMENT: u16 = 1;
pub const NAME: u16 = 2;
pub const FLAGS: u16 = 2;
pub const TSRESOL: u16 = 9;
pub const TSOFFSET: u16 = 14;
