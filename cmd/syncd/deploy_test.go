package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/config"
	"polarmirror/internal/web"
)

// lookedUp are the variables that a configuration reads: that of a file with
// text, or without one that of the environment alone.
func lookedUp(t testing.TB, text string) []string {
	path := ""
	if text != "" {
		path = writeFile(t, "config.yaml", text)
	}
	var names []string
	_, _ = config.Load(path, func(name string) (string, bool) {
		names = append(names, name)
		return "value", true
	}) // what they hold is wrong and beside the point
	slices.Sort(names)
	return slices.Compact(names)
}

// imageWorkdir is the folder that the image's program starts in.
func imageWorkdir(t testing.TB) string {
	t.Helper()
	text := readDocument(t, "Dockerfile")
	final := text[strings.LastIndex(text, "\nFROM "):]
	if !strings.Contains(final, "\nENTRYPOINT [\"/syncd\"]\n") || strings.Contains(final, "\nCMD") || strings.Contains(final, "\nENV") {
		t.Error("the image starts something else than syncd without arguments and environment")
	}
	return regexp.MustCompile(`(?m)^WORKDIR (\S+)$`).FindStringSubmatch(final)[1]
}

func TestEveryDeploymentFindsTheSameConfigurationFile(t *testing.T) {
	t.Parallel()
	const want = "/etc/syncd/config.yaml"
	image := imageWorkdir(t)
	for name, d := range deployments(t) {
		workdir := d.workdir
		if workdir == "" {
			workdir = image
		}
		if got := workdir + "/" + config.DefaultPath; got != want || d.file != want || len(d.arguments) > 0 {
			t.Errorf("%s: syncd %v reads %s, the file is at %s; want both at %s", name, d.arguments, got, d.file, want)
		}
		if d.grace <= exitTime {
			t.Errorf("%s: %v to end in are too few; syncd takes up to %v", name, d.grace, exitTime)
		}
	}
}

func TestEveryVariableOfADeploymentIsRead(t *testing.T) {
	t.Parallel()
	alone := lookedUp(t, "")
	if want := []string{"DATABASE_URL", "POLAR_ACCESS_TOKEN", "POLAR_ORGANIZATION_ID", "POLAR_SERVER"}; !cmp.Equal(alone, want) {
		t.Errorf("without a file: %s", cmp.Diff(want, alone))
	}
	for name, d := range deployments(t) {
		known := append(lookedUp(t, d.text), "GOTRACEBACK") // of every Go program
		for _, variable := range d.environment {
			if !slices.Contains(known, variable) {
				t.Errorf("%s: nothing reads %s", name, variable)
			}
		}
	}
	example := regexp.MustCompile(`(?m)^([A-Z_]+)=`).FindAllStringSubmatch(readDocument(t, "deploy/env.example"), -1)
	used := regexp.MustCompile(`\$\{([A-Z_]+)|environment: ([A-Z_]+)`).FindAllStringSubmatch(readDocument(t, "deploy/compose.yaml"), -1)
	names := map[string]int{"VERSION": 3, "COMMIT": 3} // of a build, and not asked for
	for _, e := range example {
		names[e[1]] |= 1
	}
	for _, u := range used {
		names[u[1]+u[2]] |= 2
	}
	for variable, where := range names {
		if where != 3 {
			t.Errorf("%s is in one of compose.yaml and env.example alone", variable)
		}
	}
}

func TestConfigurationOfADeploymentIsValidWhereItRuns(t *testing.T) {
	t.Parallel()
	for _, d := range deployments(t) {
		if d.text == "" {
			d.text = readDocument(t, "config.example.yaml")
			d.environment = lookedUp(t, d.text)
		}
		dir := t.TempDir()
		text := strings.ReplaceAll(d.text, "/run/secrets/syncd", dir)
		for file, body := range map[string]string{
			"config.yaml":        text,
			"polar_access_token": "polar_oat_" + canary,
			"syncd_http_token":   strings.Repeat(canary, 2),
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out := syncdIn(t, dir, d.environment, "config", "check", "--offline")
		assertContains(t, out, "✓ configuration: config.yaml is valid; organizations: ")
		for _, port := range d.listen {
			assertContains(t, text, "listen: :"+port+"\n")
		}
	}
	none := t.TempDir()
	assertContains(t, syncdIn(t, none, []string{"POLAR_ACCESS_TOKEN"}, "config", "check", "--offline"),
		"✓ configuration: environment is valid; organizations: default")
	assertContains(t, syncdIn(t, none, nil, "config", "check", "--offline"), "set POLAR_ACCESS_TOKEN, or write a config.yaml")
}

// syncdIn runs syncd as a process in dir, with nothing in its environment but
// these variables, each with a value of its kind, and returns all it printed.
func syncdIn(t testing.TB, dir string, variables []string, arguments ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"POLAR_ACCESS_TOKEN":      "polar_oat_" + canary,
		"POLAR_ORGANIZATION_ID":   "1dbfc517-0bbf-4301-9ba8-555ca42b9737",
		"POLAR_ORGANIZATION_NAME": "acme",
		"DATABASE_URL":            "postgres://syncd:" + canary + "@127.0.0.1:5432/mirror",
		"SYNCD_HTTP_TOKEN":        strings.Repeat(canary, 2),
	}
	cmd := exec.CommandContext(t.Context(), self, arguments...)
	cmd.Dir = dir
	cmd.Env = []string{mainEnv + "=1"}
	for _, name := range variables {
		cmd.Env = append(cmd.Env, name+"="+values[name])
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // what it says is looked at
	if strings.Contains(out.String(), canary) {
		t.Errorf("it shows a secret:\n%s", out.String())
	}
	return out.String()
}

func TestImageChecksItselfWithinItsTimeout(t *testing.T) {
	t.Parallel()
	found := regexp.MustCompile(`(?m)^HEALTHCHECK .*--timeout=(\S+) .*CMD \["/syncd", "healthcheck"\]$`).FindStringSubmatch(readDocument(t, "Dockerfile"))
	if found == nil {
		t.Fatal("the image's health check is not syncd's")
	}
	if limit := parseSpan(t, found[1]); limit <= web.HealthTimeout {
		t.Errorf("the timeout, %v, cuts off the check, which gives up after %v", limit, web.HealthTimeout)
	}
}

func TestUnitDoesNotRestartWhatNoRestartMends(t *testing.T) {
	t.Parallel()
	text := readDocument(t, "deploy/syncd.service")
	assertContains(t, text, "\nRestart=on-failure\n", "\nRestartPreventExitStatus=2\n", "\nEnvironment=GOTRACEBACK=crash\n")
	if exitUsage != 2 || exitDatabase == exitUsage {
		t.Error("the exit codes are not those of the unit")
	}
}
