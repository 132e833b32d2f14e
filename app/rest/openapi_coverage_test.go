package rest_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// allKinds are the kinds with the tables that they have by default.
var allKinds = []*directory.Kind{ldapdirtest.Users, ldapdirtest.Groups, ldapdirtest.Hosts}

var (
	// seen are the answers that tests got.
	seen = &answersSeen{all: map[string]bool{}}
	// belated are faults that were found when the test had ended.
	belated = &texts{}
)

// answersSeen are answers by operation, status and code.
type answersSeen struct {
	mutex sync.Mutex
	all   map[string]bool
}

func (s *answersSeen) add(o operation, status int, code string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.all[fmt.Sprintf("%s %d", o, status)] = true
	s.all[fmt.Sprintf("%s %d %s", o, status, code)] = true
}

func (s *answersSeen) has(o operation, status, code string) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.all[strings.TrimSpace(fmt.Sprintf("%s %s %s", o, status, code))]
}

type texts struct {
	mutex sync.Mutex
	all   []string
}

func (s *texts) add(text string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.all = append(s.all, text)
}

// TestMain says which documented answers no test has seen, and fails where that is a whole status, if all tests ran.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, fault := range belated.all {
		fmt.Println("after the end of its test:", fault)
		code = max(code, 1)
	}
	if isWhole() {
		code = max(code, missing())
	}
	os.Exit(code)
}

// isWhole reports whether all tests were to run.
func isWhole() bool {
	for _, name := range []string{"run", "skip", "fuzz", "bench", "list"} {
		if flag.Lookup("test."+name).Value.String() != "" {
			return false
		}
	}
	return !testing.Short()
}

// missing prints the documented answers that no test has seen, and returns the code to exit with.
func missing() (exit int) {
	d, err := describedBy(allKinds)
	if err != nil {
		fmt.Println("the OpenAPI document:", err)
		return 1
	}
	statuses := 0
	var unseen []string
	for _, o := range d.operations() {
		for _, status := range slices.Sorted(maps.Keys(o.Responses.Map())) {
			statuses++
			if !seen.has(o, status, "") {
				fmt.Printf("no test has seen %s answered by %s\n", o, status)
				exit = 1
				continue
			}
			for _, code := range o.codes(status) {
				if !seen.has(o, status, code) {
					unseen = append(unseen, fmt.Sprintf("%s: %s %s\n", o, status, code))
				}
			}
		}
	}
	slices.Sort(unseen)
	fmt.Printf("OpenAPI: %d operations with %d statuses; of codes, %d were not seen\n%s", len(d.operations()), statuses, len(unseen), strings.Join(unseen, ""))
	return exit
}

// codes are those that a problem with a status may have.
func (o operation) codes(status string) (all []string) {
	number, err := strconv.Atoi(status)
	if err != nil || number < 400 {
		return nil
	}
	answer := o.Responses.Status(number).Value
	for _, value := range answer.Content["application/problem+json"].Schema.Value.Properties["code"].Value.Enum {
		all = append(all, value.(string))
	}
	return all
}
