package main

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

func TestPeakMemoryIsTheProcessOwn(t *testing.T) {
	t.Parallel()
	// What this process holds must not be counted, nor what the child gives back.
	ours := make([]byte, 3*eaten)
	for i := range ours {
		ours[i] = 1
	}
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = append(os.Environ(), eatEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c, err := startChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); c.peak.Load() < eaten && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	used, err := c.wait()
	if err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(ours)
	if used.peak < eaten || used.peak >= 2*eaten {
		t.Errorf("%d MiB, want a little over %d", used.peak>>20, eaten>>20)
	}
	if used.cpu <= 0 || used.wall < used.cpu/time.Duration(runtime.NumCPU()+1) {
		t.Errorf("CPU %v within %v", used.cpu, used.wall)
	}
}

func TestFamilyCPUHoldsWhatEndedChildrenUsed(t *testing.T) {
	t.Parallel()
	// A process whose only work is done by a child that has ended.
	const script = `(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done); echo done; read line`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	own, known := readStat(cmd.Process.Pid)
	family, ok := familyCPU(cmd.Process.Pid)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // read finds no line, which is no matter
	if !known || !ok || family < own.own+2*tick || own.parent != os.Getpid() {
		t.Errorf("family %v (known: %v), itself %+v (known: %v)", family, ok, own, known)
	}
	if _, ok := familyCPU(cmd.Process.Pid); ok {
		t.Error("the CPU of a process that has ended is known")
	}
}
