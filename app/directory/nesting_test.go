package directory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollcall/app/directory"
)

// unreachable is more than any distance.
const unreachable = 1 << 20

// graph is which groups are direct members of which, by their numbers.
type graph [][]bool

func dnOf(group int) string { return fmt.Sprintf("cn=g%d,ou=groups", group) }

func nameOf(group int) string { return fmt.Sprintf("g%d", group) }

// drawGraph draws groups that are in each other in any way, in circles and in themselves too.
func drawGraph(t *rapid.T) graph {
	n := rapid.IntRange(0, 9).Draw(t, "groups")
	in := make(graph, n)
	for i := range in {
		in[i] = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) bool { return rapid.IntRange(0, 5).Draw(t, "edge") == 0 }), n, n).Draw(t, fmt.Sprint(i))
	}
	return in
}

// nesting returns the graph as a server tells of it: DNs are spelled in several ways, come twice, and lead out of it.
func (in graph) nesting(t *rapid.T) *directory.Nesting {
	var groups []directory.NestedGroup
	for i := range in {
		group := directory.NestedGroup{DN: dnOf(i), Name: nameOf(i)}
		for j, member := range in[i] {
			if member {
				group.MemberOfs = append(group.MemberOfs, spelled(t, dnOf(j)))
			}
		}
		if len(group.MemberOfs) > 0 && rapid.Bool().Draw(t, "more") {
			group.MemberOfs = append(group.MemberOfs, "cn=elsewhere", spelled(t, group.MemberOfs[0]), "")
		}
		groups = append(groups, group)
	}
	return directory.NewNesting(groups, strings.ToLower)
}

func spelled(t *rapid.T, dn string) string {
	if rapid.Bool().Draw(t, "upper") {
		return strings.ToUpper(dn)
	}
	return dn
}

// distances returns how many steps it takes from one group into another, by going on until nothing gets shorter.
func (in graph) distances() [][]int {
	far := make([][]int, len(in))
	for i := range in {
		far[i] = slices.Repeat([]int{unreachable}, len(in))
		far[i][i] = 0
	}
	for changed := true; changed; {
		changed = false
		for i := range in {
			for j := range in {
				for k, member := range in[j] {
					if member && far[i][j]+1 < far[i][k] {
						far[i][k], changed = far[i][j]+1, true
					}
				}
			}
		}
	}
	return far
}

// turned returns the graph with every membership the other way round.
func (in graph) turned() graph {
	out := make(graph, len(in))
	for i := range out {
		out[i] = make([]bool, len(in))
		for j := range in {
			out[i][j] = in[j][i]
		}
	}
	return out
}

// TestNestingReachesWhatAPlainWalkReaches, each group once, the nearest first, by a path that is there and the shortest.
func TestNestingReachesWhatAPlainWalkReaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawGraph(t)
		nesting := in.nesting(t)
		var starts []int
		var dns []string
		if len(in) > 0 {
			starts = rapid.SliceOfN(rapid.IntRange(0, len(in)-1), 0, 3).Draw(t, "starts")
		}
		for _, start := range starts {
			dns = append(dns, spelled(t, dnOf(start)))
		}
		dns = append(dns, "cn=elsewhere")
		checkReached(t, nesting.Above(dns...), in, starts)
		checkReached(t, nesting.Below(dns...), in.turned(), starts)
	})
}

func checkReached(t *rapid.T, got directory.Reached, in graph, starts []int) {
	t.Helper()
	far := in.distances()
	nearest := func(group int) int {
		steps := unreachable
		for _, start := range starts {
			steps = min(steps, far[start][group])
		}
		return steps
	}
	order, steps := got.DNs(), 0
	for group := range in {
		dn := dnOf(group)
		want := nearest(group)
		path := got.Path(spelled(t, dn))
		if got.Has(dn) != (want < unreachable) || slices.Contains(order, dn) != (want < unreachable) {
			t.Fatalf("%s is %d steps away, and reached: %v, %q", dn, want, got.Has(dn), order)
		}
		if want == unreachable {
			if path != nil {
				t.Fatalf("there is no way to %s, and yet %q", dn, path)
			}
			continue
		}
		if len(path) != want+1 || path[want] != nameOf(group) {
			t.Fatalf("%s is %d steps away, not %q", dn, want, path)
		}
		var at []int
		for _, name := range path {
			var number int
			if _, err := fmt.Sscanf(name, "g%d", &number); err != nil {
				t.Fatalf("%q: %v", path, err)
			}
			at = append(at, number)
		}
		if !slices.Contains(starts, at[0]) {
			t.Fatalf("%q does not begin where it should: %v", path, starts)
		}
		for i := 1; i < len(at); i++ {
			if !in[at[i-1]][at[i]] {
				t.Fatalf("%q has a step that is none", path)
			}
		}
	}
	for i, dn := range order {
		if slices.Contains(order[:i], dn) {
			t.Fatalf("%s is reached twice: %q", dn, order)
		}
		if now := len(got.Path(dn)); now < steps {
			t.Fatalf("%s comes after one that is further away: %q", dn, order)
		} else {
			steps = now
		}
	}
	if got.Has("cn=elsewhere") || got.Path("cn=elsewhere") != nil || got.Has("") {
		t.Fatal("what is no group is reached")
	}
}

func TestOfTwoWaysTheShorterIsThePath(t *testing.T) {
	nesting := directory.NewNesting([]directory.NestedGroup{
		{"cn=a", "a", []string{"cn=b", "cn=d"}}, {"cn=b", "b", []string{"cn=c"}}, {"cn=c", "c", []string{"cn=d", "cn=a"}}, {"cn=d", "d", []string{"cn=d"}},
	}, strings.ToLower)
	above := nesting.Above("CN=A")
	if diff := cmp.Diff([]string{"cn=a", "cn=b", "cn=d", "cn=c"}, above.DNs()); diff != "" {
		t.Errorf("above a: %s", diff)
	}
	for dn, want := range map[string][]string{"cn=a": {"a"}, "cn=d": {"a", "d"}, "cn=c": {"a", "b", "c"}, "cn=e": nil} {
		if diff := cmp.Diff(want, above.Path(dn)); diff != "" {
			t.Errorf("from a to %s: %s", dn, diff)
		}
	}
	if name := nesting.Name("CN=D"); name != "d" || nesting.Name("cn=e") != "" {
		t.Errorf("d is called %q, and e %q", name, nesting.Name("cn=e"))
	}
}
