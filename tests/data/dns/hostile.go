// Makes hostile.txt: packets of all kinds of wrong, and what miekg/dns 1.1.50 (Debian's golang-github-miekg-dns-dev)
// answers to each (`-`: nothing), with a handler that decides as CoreDNS's Server.ServeDNS does before any plugin:
// no question SERVFAIL, a class other than IN REFUSED, an EDNS version other than 0 BADVERS, else NXDOMAIN.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run hostile.go > hostile.txt
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/rand"
	"net"
	"os"
	"time"

	"github.com/miekg/dns"
)

func handle(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	if len(r.Question) == 0 {
		m.SetRcode(r, dns.RcodeServerFailure)
	} else if r.Question[0].Qclass != dns.ClassINET {
		m.SetRcode(r, dns.RcodeRefused)
	} else if opt := r.IsEdns0(); opt != nil && opt.Version() != 0 {
		m.SetRcode(r, dns.RcodeBadVers)
		o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		o.SetExtendedRcode(dns.RcodeBadVers)
		m.Extra = []dns.RR{o}
	} else {
		m.SetRcode(r, dns.RcodeNameError)
	}
	w.WriteMsg(m)
}

func name(labels ...string) []byte {
	var b []byte
	for _, l := range labels {
		b = append(b, byte(len(l)))
		b = append(b, l...)
	}
	return append(b, 0)
}

func cat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func main() {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(handle), UDPSize: 65535}
	go s.ActivateAndServe()
	rng := rand.New(rand.NewSource(7))
	hdr := func(f1, f2 byte, c ...byte) []byte {
		b := []byte{0x12, 0x34, f1, f2}
		for _, x := range c {
			b = append(b, 0, x)
		}
		return b
	}
	q := cat(name("cart", "shop", "svc", "cluster", "local"), []byte{0, 1, 0, 1})
	opt := []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0}
	optc := []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8}
	rrA := cat(name("a", "test"), []byte{0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1})
	rrBad := cat(name("a", "test"), []byte{0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 192, 0, 2})
	rrSoa := cat([]byte{0xC0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 24}, []byte{0xC0, 12, 0xC0, 12}, make([]byte, 20))
	rrTxt := cat([]byte{0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 5}, []byte{4, 'a', 'b', 'c', 'd'})
	rrUnk := cat([]byte{0xC0, 12, 0xff, 0, 0, 1, 0, 0, 0, 60, 0, 3, 1, 2, 3})
	long := make([]string, 0)
	for i := 0; i < 3; i++ {
		long = append(long, string(make63('a')))
	}
	base := [][]byte{
		cat(hdr(1, 0, 1, 0, 0, 0), q),
		cat(hdr(0, 0, 1, 0, 0, 0), q),
		cat(hdr(1, 0, 1, 0, 0, 1), q, opt),
		cat(hdr(1, 0x20, 1, 0, 0, 1), q, optc),
		cat(hdr(1, 0x10, 1, 0, 0, 0), q),
		cat(hdr(1, 0x40, 1, 0, 0, 0), q),
		cat(hdr(1, 0x0f, 1, 0, 0, 0), q),
		cat(hdr(1, 0x80, 1, 0, 0, 0), q),
		cat(hdr(7, 0, 1, 0, 0, 0), q),
		cat(hdr(0x81, 0, 1, 0, 0, 0), q),
		cat(hdr(1, 0, 1, 0, 0, 2), q, opt, rrA),
		cat(hdr(1, 0, 1, 0, 0, 2), q, opt, opt),
		cat(hdr(1, 0, 1, 1, 0, 0), q, rrA),
		cat(hdr(1, 0, 1, 0, 1, 0), q, rrSoa),
		cat(hdr(0x21, 0, 1, 1, 0, 0), q, rrSoa),
		cat(hdr(1, 0, 1, 1, 1, 2), q, rrA, rrSoa, rrTxt, rrUnk),
		cat(hdr(1, 0, 1, 1, 0, 0), q, rrBad),
		cat(hdr(1, 0, 1, 0, 0, 1), q, rrTxt),
		cat(hdr(1, 0, 1, 0, 0, 1), q, rrUnk),
		// counts that lie
		cat(hdr(1, 0, 1, 0, 0, 1), q), cat(hdr(1, 0, 1, 1, 0, 0), q), cat(hdr(1, 0, 1, 0, 1, 2), q),
		cat(hdr(1, 0, 1, 0, 0, 2), q, opt), cat(hdr(1, 0, 1, 0, 0, 0), q, opt),
		cat(hdr(1, 0, 1, 0, 0, 0), q, []byte{1, 2, 3}),
		hdr(1, 0, 1, 0, 0, 0), hdr(1, 0, 0, 0, 0, 0), hdr(1, 0, 2, 0, 0, 0), hdr(1, 0, 1, 1, 1, 2),
		cat(hdr(1, 0, 2, 0, 0, 0), q, q), cat(hdr(1, 0, 0, 0, 0, 0), q), cat(hdr(1, 0, 1, 2, 0, 0), q), cat(hdr(1, 0, 1, 0, 0, 3), q),
		// the root, types and classes
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0, 0, 2, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0, 0, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0xff, 0xff, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0, 41, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0, 250, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0, 1, 0, 3}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0, 1, 0, 255}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0, 1, 0, 0}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("a"), []byte{0, 1, 0, 254}),
		// labels
		cat(hdr(1, 0, 1, 0, 0, 0), name("a.b", "c\\d", "e f", "\x00\xff"), []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name("A", "tEsT"), []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0x40, 'a', 0}, []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0x80, 'a', 0}, []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name(long...), []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name(append(append([]string{}, long...), string(make63('b'))[:60])...), []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name(append(append([]string{}, long...), string(make63('b'))[:61])...), []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name(append(append([]string{}, long...), string(make63('b'))[:62])...), []byte{0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), name(append(append([]string{}, long...), string(make63('b')))...), []byte{0, 1, 0, 1}),
		// pointers: to itself, forward, behind the end, into the header, one after another
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0xC0, 12, 0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0xC0, 14, 1, 'a', 0, 0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0xC0, 18, 0, 1, 0, 1, 1, 'a', 0}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0xFF, 0xFF, 0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0xC0, 4, 0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{0xC0, 6, 0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{1, 'a', 0xC0, 12, 0, 1, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 0), []byte{1, 'a', 0xC0}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0xC0, 45, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4}),
		// OPT: other names, broken options, lengths that lie
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{1, 'a', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 3, 0, 10, 0}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 10, 0, 9}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 5, 0, 10, 0, 0, 1}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 9, 24, 0, 192, 0, 2}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 8, 0, 8, 0, 1, 33, 0, 192, 0, 2, 3}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 9, 0, 10, 0, 5, 1, 2, 3, 4, 5}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 11, 0, 2, 0, 9}),
		cat(hdr(1, 0, 1, 0, 0, 1), q, []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 5, 0, 11, 0, 1, 0}),
	}
	var all [][]byte
	all = append(all, base...)
	// cut everywhere
	for _, b := range [][]byte{base[2], base[3], base[14], base[15]} {
		for i := 0; i < len(b); i++ {
			all = append(all, b[:i])
		}
	}
	for op := byte(0); op < 16; op++ {
		all = append(all, cat(hdr(op<<3|1, 0, 1, 0, 0, 0), q))
	}
	// changed
	for i := 0; i < 900; i++ {
		b := append([]byte{}, base[rng.Intn(len(base))]...)
		for n := 1 + rng.Intn(3); n > 0; n-- {
			switch at := rng.Intn(len(b)); rng.Intn(4) {
			case 0:
				b[at] = byte(rng.Intn(256))
			case 1:
				b[at] ^= 1 << rng.Intn(8)
			case 2:
				b = b[:at+1]
			case 3:
				b = append(b[:at:at], append([]byte{byte(rng.Intn(256))}, b[at:]...)...)
			}
		}
		all = append(all, b)
	}
	// random
	for i := 0; i < 200; i++ {
		b := make([]byte, rng.Intn(80))
		rng.Read(b)
		if len(b) > 12 && i%2 == 0 {
			copy(b, hdr(1, 0, 1, 0, 0, byte(rng.Intn(3))))
		}
		all = append(all, b)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	buf := make([]byte, 65535)
	for _, p := range all {
		c, err := net.Dial("udp", pc.LocalAddr().String())
		if err != nil {
			panic(err)
		}
		c.Write(p)
		c.SetReadDeadline(time.Now().Add(60 * time.Millisecond))
		n, err := c.Read(buf)
		reply := "-"
		if err == nil {
			reply = hex.EncodeToString(buf[:n])
		}
		c.Close()
		h := hex.EncodeToString(p)
		if h == "" {
			continue
		}
		fmt.Fprintf(out, "%s %s\n", h, reply)
	}
}

func make63(c byte) []byte {
	b := make([]byte, 63)
	for i := range b {
		b[i] = c
	}
	return b
}
