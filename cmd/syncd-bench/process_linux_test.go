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
	// What this process holds must not be counted.
	ours := make([]byte, 3*eaten)
	for i := range ours {
		ours[i] = 1
	}
	cmd := exec.CommandContext(t.Context(), must(os.Executable()))
	cmd.Env = append(os.Environ(), eatEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var peak int64
	for deadline := time.Now().Add(patience); peak < eaten && time.Now().Before(deadline); time.Sleep(peakEvery) {
		peak = peakMemory(cmd.Process.Pid)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(ours)
	if peak < eaten || peak >= 2*eaten {
		t.Errorf("%d MiB, want a little over %d", peak>>20, eaten>>20)
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
	stat, err := readStat(cmd.Process.Pid)
	own := time.Duration(stat.UTime+stat.STime) * clockTick
	family := familyCPU(cmd.Process.Pid)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // read finds no line, which is no matter
	if err != nil || family < own+2*clockTick || stat.PPID != os.Getpid() {
		t.Errorf("family %v, itself %v (%v)", family, own, err)
	}
	if family := familyCPU(cmd.Process.Pid); family != 0 {
		t.Errorf("a process that has ended used %v", family)
	}
}
