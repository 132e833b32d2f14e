package directory_test

import (
	"slices"
	"strings"
	"testing"

	"rollcall/app/directory"
)

func TestAFilterMayBeLongButNotDeep(t *testing.T) {
	kind, err := directory.NewKind(directory.Users(), "cn")
	if err != nil {
		t.Fatal(err)
	}
	for text, refused := range map[string]bool{
		"cn pr" + strings.Repeat(" or sn pr", 800):                                       false,
		"cn pr" + strings.Repeat(" and sn pr", 700):                                      false,
		"cn pr" + strings.Repeat(" or sn pr and uid pr", 300):                            false,
		strings.Repeat("(", 1000) + "cn pr" + strings.Repeat(")", 1000):                  false,
		strings.Repeat("not (", 30) + "cn pr" + strings.Repeat(")", 30):                  false,
		strings.Repeat("not (", 40) + "cn pr" + strings.Repeat(")", 40):                  true,
		strings.Repeat("cn pr and (sn pr or (", 20) + "cn pr" + strings.Repeat("))", 20): true,
		strings.Repeat("(", 8000):                                                        true,
		`cn eq "` + strings.Repeat("x", 9000) + `"`:                                      true,
	} {
		if _, err := directory.ParseFilter(kind, text); (err != nil) != refused || refused && !directory.Is(err, directory.Invalid) {
			t.Errorf("%.60q…: %v", text, err)
		}
	}
}

func TestTheTermsOfAFilterKeepTheirOrder(t *testing.T) {
	kind, err := directory.NewKind(directory.Users(), "cn")
	if err != nil {
		t.Fatal(err)
	}
	filter, err := directory.ParseFilter(kind, "cn pr or sn pr and uid pr and mail pr or title pr")
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	var collect func(directory.Filter)
	collect = func(f directory.Filter) {
		if f.Field != "" {
			fields = append(fields, f.Field)
		}
		for _, of := range f.Of {
			collect(of)
		}
	}
	collect(filter)
	if want := []string{"cn", "sn", "uid", "mail", "title"}; !slices.Equal(fields, want) || filter.Operator != directory.Or || len(filter.Of) != 3 {
		t.Errorf("got %v", filter)
	}
}
