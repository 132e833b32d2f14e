package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// series are what the program shows to Prometheus: by metric the labels, and by label the values.
type series map[string]map[string][]string

var (
	sample  = regexp.MustCompile(`(?m)^([a-z_:]+)(?:\{(.*)\})? \S+$`)
	labeled = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// measured starts the program, has it do something of each kind, and reads its metrics.
func measured(t *testing.T) series {
	t.Helper()
	said := serve(t, []string{"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + t.TempDir(), "ROLLCALL_LOG_LEVEL=error"})
	for _, r := range []struct {
		method, path, name, password, body string
		status                             int
	}{
		{"GET", "/readyz", "", "", "", 200},
		{"GET", "/users/alice", "admin", "admin", "", 200},
		{"GET", "/users/alice", "alice", "wrong", "", 401},
		{"GET", "/authkeys?username=bob&host=web1", "admin", "admin", "", 200},
		{"PATCH", "/users/alice", "admin", "admin", `{"title":"Pilot"}`, 200},
	} {
		if status, body := ask(t, r.method, said["listens on"]+r.path, r.name, r.password, r.body); status != r.status {
			t.Fatalf("%s %s as %q: %d\n%s", r.method, r.path, r.name, status, body)
		}
	}
	status, text := ask(t, "GET", said["metrics at"], "", "", "")
	if status != 200 {
		t.Fatalf("metrics: %d\n%s", status, text)
	}
	found := series{"up": {}}
	for _, line := range sample.FindAllStringSubmatch(text, -1) {
		if found[line[1]] == nil {
			found[line[1]] = map[string][]string{}
		}
		for _, label := range labeled.FindAllStringSubmatch(line[2], -1) {
			found[line[1]][label[1]] = append(found[line[1]][label[1]], label[2])
		}
	}
	for _, labels := range found { // which Prometheus adds
		labels["job"], labels["instance"] = []string{"rollcall"}, []string{"127.0.0.1:9090"}
	}
	return found
}

// rule is an alert or a record.
type rule struct {
	Alert, Record, Expr string
	Annotations         map[string]string
}

func rules(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(read(t, "deploy/prometheus/rollcall.rules.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no rules")
	}
	return all
}

// panel is a panel of a dashboard, or what else asks Prometheus.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ H, W, X, Y int }
	Targets []struct{ Expr, LegendFormat string }
}

type dashboard struct {
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct {
		List []struct{ Expr string }
	}
}

func grafana(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "deploy/grafana/rollcall.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// queries returns what the dashboard asks Prometheus, by what asks, as Grafana would put it with everything chosen.
func (d dashboard) queries() map[string]string {
	chosen := strings.NewReplacer("$__rate_interval", "5m", "$job", "rollcall", "$instance", ".*")
	all := map[string]string{}
	for _, p := range d.Panels {
		for i, target := range p.Targets {
			all[fmt.Sprintf("panel %q, query %d", p.Title, i+1)] = chosen.Replace(target.Expr)
		}
	}
	for i, a := range d.Annotations.List {
		all[fmt.Sprintf("annotation %d", i+1)] = chosen.Replace(a.Expr)
	}
	for _, v := range d.Templating.List {
		if of, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			metric, label, _ := strings.Cut(strings.TrimSuffix(of, ")"), ", ")
			metric, matchers, _ := strings.Cut(metric, "{")
			all["variable "+v.Name] = "count by (" + label + ") (" + metric + "{" + strings.TrimSuffix(chosen.Replace(matchers), "}") + "})"
		}
	}
	return all
}

var (
	selector = regexp.MustCompile(`\b([a-z_]+(?::[a-z_]+)*)\{((?:[^"}]|"[^"]*")*)\}`)
	quoted   = regexp.MustCompile(`"[^"]*"`)
	bare     = regexp.MustCompile(`\b(?:rollcall|process|go)_[a-z_]+\b`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring) \(([^)]*)\)`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
)

// faults says what a query asks for that the program does not have.
func (s series) faults(query string) []string {
	var faults []string
	labels := map[string]bool{"le": true}
	for _, m := range selector.FindAllStringSubmatch(query, -1) {
		name := m[1]
		if s[name] == nil {
			faults = append(faults, "there is no metric "+name)
			continue
		}
		for label := range s[name] {
			labels[label] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(m[2], -1) {
			values, ok := s[name][m[1]]
			if !ok {
				faults = append(faults, name+" has no label "+m[1])
			}
			// Of results and statuses only some have come.
			if equal := m[2] == "=" || m[2] == "=~"; equal && m[1] != "result" && m[1] != "status" && !slices.ContainsFunc(values, func(value string) bool {
				return m[2] == "=" && value == m[3] || m[2] == "=~" && regexp.MustCompile("^(?:"+strings.ReplaceAll(m[3], "{name}", `\{name\}`)+")$").MatchString(value)
			}) {
				faults = append(faults, fmt.Sprintf("no %s has %s; there are %q", name, m[0], slices.Compact(slices.Sorted(slices.Values(values)))))
			}
		}
	}
	rest := quoted.ReplaceAllString(selector.ReplaceAllString(query, ""), "")
	for _, name := range bare.FindAllString(rest, -1) {
		if !strings.Contains(rest, ":"+name) { // what is left is the name of a record
			faults = append(faults, "a metric without the job that it is of: "+name)
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			if label = strings.TrimSpace(label); !labels[label] {
				faults = append(faults, "nothing in it has a label "+label)
			}
		}
	}
	return faults
}

func TestDashboardAndRulesAskOnlyForMetricsThatTheProgramHas(t *testing.T) {
	found := measured(t)
	asked := grafana(t).queries()
	for _, r := range rules(t) {
		asked["rule "+r.Alert+r.Record] = r.Expr
	}
	for what, query := range asked {
		for _, fault := range found.faults(query) {
			t.Errorf("%s: %s:\n%s", what, fault, query)
		}
	}
	everything := fmt.Sprint(slices.Collect(maps.Values(grafana(t).queries())))
	for metric := range found {
		name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(metric, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(metric, "rollcall_") && !strings.Contains(everything, name) {
			t.Errorf("the dashboard does not show %s", metric)
		}
	}
}

func TestEveryQueryOfTheDashboardIsPromQL(t *testing.T) {
	var records []map[string]string
	for _, query := range grafana(t).queries() {
		records = append(records, map[string]string{"record": "query", "expr": query})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": records}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, file, string(text))
	if out, err := exec.Command("promtool", "check", "rules", "--lint=none", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheDashboardFitsAnyGrafana(t *testing.T) {
	d := grafana(t)
	for _, uid := range regexp.MustCompile(`"uid": "([^"]*)"`).FindAllStringSubmatch(read(t, "deploy/grafana/rollcall.json"), -1) {
		if uid[1] != "${datasource}" && uid[1] != "rollcall" { // the dashboard's own
			t.Errorf("the data source is a variable, not %q", uid[1])
		}
	}
	seen := map[int]bool{}
	taken := map[[2]int]string{}
	legend := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, p := range d.Panels {
		if seen[p.ID] {
			t.Errorf("%q: another panel has id %d too", p.Title, p.ID)
		}
		seen[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			kept := grouping.FindStringSubmatch(target.Expr)
			for _, label := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if kept != nil && !slices.Contains(strings.Split(kept[1], ", "), label[1]) {
					t.Errorf("%q: the legend %s names what the query leaves out", p.Title, target.LegendFormat)
				}
			}
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] > 23 {
					t.Fatalf("%q is where %q is, or outside", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
	}
}

func TestEveryAlertHasARunbookAndTestsThatItFiresAndThatItDoesNot(t *testing.T) {
	var file struct {
		Tests []struct {
			Cases []struct {
				Alertname string
				Expected  []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/prometheus/rollcall.test.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		if last := test.Cases[len(test.Cases)-1]; len(last.Expected) > 0 {
			fires[last.Alertname] = true
		} else {
			rests[last.Alertname] = true
		}
	}
	guide := read(t, "docs/monitoring.md")
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if !fires[r.Alert] || !rests[r.Alert] {
			t.Errorf("%s: tests show it firing (%t) and not firing (%t)", r.Alert, fires[r.Alert], rests[r.Alert])
		}
		if !strings.Contains(guide, "\n### "+r.Alert+"\n") || r.Annotations["runbook"] != "docs/monitoring.md#"+strings.ToLower(r.Alert) {
			t.Errorf("%s: docs/monitoring.md has no such heading, or the rule leads to another: %q", r.Alert, r.Annotations["runbook"])
		}
		for _, annotation := range []string{"summary", "description"} {
			if r.Annotations[annotation] == "" {
				t.Errorf("%s has no %s", r.Alert, annotation)
			}
		}
	}
}

func TestTheRulesCanBeAResourceOfThePrometheusOperator(t *testing.T) {
	text := "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: rollcall\nspec:\n" +
		regexp.MustCompile(`(?m)^`).ReplaceAllString(read(t, "deploy/prometheus/rollcall.rules.yaml"), "  ")
	decode(t, []byte(text))
}
