package localpg

import (
	"fmt"
	"net"
)

const (
	loopback   = "127.0.0.1"
	portsTried = 5
)

// portsToTry prefers the port of last time: other programs may know it, and a
// server restarted after a crash must come back where its users look for it.
func (s *Server) portsToTry() []int {
	var ports []int
	if last := s.home.lastPort(); last != 0 {
		ports = append(ports, last)
	}
	for range portsTried {
		if port, err := freePort(); err == nil {
			ports = append(ports, port)
		}
	}
	return ports
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		return 0, fmt.Errorf("find a free port on %s: %w", loopback, err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("find a free port: %s is no TCP address", l.Addr())
	}
	return addr.Port, nil
}
