package main

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func TestHangUpIsAnOrderAsLongAsTheTerminalIsThere(t *testing.T) {
	t.Parallel()
	master, slave := terminal(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	h := newHangUps(null, slave)
	if h.deliver() {
		t.Error("an order before anybody took it")
	}
	orders := h.take()
	for range 2 {
		if !h.deliver() {
			t.Error("kill -HUP at a terminal is no order")
		}
	}
	<-orders
	if len(orders) != 0 {
		t.Error("two orders at once are two")
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if h.deliver() {
		t.Error("the terminal was closed, and the service would go on")
	}
	if none := newHangUps(null); none.take() == nil || !none.deliver() {
		t.Error("without a terminal a hang-up is no order")
	}
}
