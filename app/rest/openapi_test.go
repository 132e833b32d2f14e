package rest_test

import (
	"context"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/rest"
)

func TestTheDocumentIsOpenAPI(t *testing.T) {
	text := rest.Document([]*directory.Kind{ldapdirtest.Users, ldapdirtest.Groups, ldapdirtest.Hosts}, "test", "http://127.0.0.1:8080")
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(context.Background()); err != nil {
		t.Error(err)
	}
}
