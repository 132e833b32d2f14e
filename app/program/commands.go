package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rollcall/app/cli"
	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/rest"
	"rollcall/app/telemetry"
	"rollcall/config"
	"rollcall/deploy/openldap"
)

// Command returns the program, of this version, with all that it can be told to do.
func Command(version string) *cobra.Command {
	var file string
	load := func() (*config.Config, error) {
		return config.Load(config.Options{File: file, Environ: slices.DeleteFunc(os.Environ(), cli.Reads)})
	}
	root := &cobra.Command{
		Use:           "rollcall",
		Short:         "A REST API for an LDAP directory of users, groups and hosts",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&file, "config", "", "the server's configuration file, laid on top of its environment's")
	root.AddCommand(&cobra.Command{
		Use:   "serve",
		Short: "Serve the API until told to stop (ROLLCALL_ENV picks the environment, production if unset)",
		Example: "  ROLLCALL_ENV=development rollcall serve     # with a private OpenLDAP and a sample directory\n" +
			"  rollcall serve --config rollcall.yaml       # docs/configuration.md has every key",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load()
			if err != nil {
				return fmt.Errorf("%w:\n%w", errConfiguration, err)
			}
			return run(cmd.Context(), c, version, cmd.OutOrStdout())
		},
	}, &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, and where each value comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, faults := load()
			if err := c.Print(cmd.OutOrStdout()); err != nil || faults != nil {
				return errors.Join(err, faults)
			}
			_, err := configuredKinds(c)
			return err
		},
	}, &cobra.Command{
		Use:   "openapi",
		Short: "Print the API's OpenAPI document, with the fields that are configured, as JSON",
		Long: "Print the API's OpenAPI document as JSON, with the fields that are configured. It takes a whole configuration, " +
			"as serve does; ROLLCALL_ENV=development has one, with the usual fields.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load()
			if err != nil {
				return err
			}
			kinds, err := configuredKinds(c)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(rest.Document(kinds, version, localURL(c.Server, c.Server.Listen)+c.Server.BasePath))
			return err
		},
	}, &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	}, healthcheck(load), cli.Import(), cli.Export(), cli.AuthKeys(func(file string) (cli.AuthKeysSettings, error) {
		c, err := config.LoadAuthKeys(file)
		return cli.AuthKeysSettings(*c), err
	}))
	return root
}

// configuredKinds returns the kinds that a configuration describes, and what is wrong with its directory. Nothing is
// connected to.
func configuredKinds(c *config.Config) ([]*directory.Kind, error) {
	if c.Embedded.Enabled { // what the private server brings itself
		c.LDAP.URL, c.LDAP.BaseDN = "ldap://127.0.0.1:389", cmp.Or(c.LDAP.BaseDN, openldap.DefaultSuffix)
	}
	d, kinds, err := openDirectory(c, &telemetry.Telemetry{})
	if err != nil {
		return nil, err
	}
	d.Close()
	return kinds, nil
}

func healthcheck(load func() (*config.Config, error)) *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running server whether it is well; exit 1 when it is not (with TLS it trusts the certificate in server.tls_certificate, and no other)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := reach(load, address)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			_, err = c.Call(ctx, http.MethodGet, "/healthz", nil, nil)
			return err
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "where the server is; by default where the configuration says")
	return cmd
}

// reach returns a client of the server at an address, or of the one that is configured.
func reach(load func() (*config.Config, error), address string) (*client.Client, error) {
	if address != "" {
		return &client.Client{URL: address}, nil
	}
	c, err := load()
	if err != nil {
		return nil, err
	}
	reached := &client.Client{URL: localURL(c.Server, c.Server.Listen) + c.Server.BasePath}
	if c.Server.TLSCertificate != "" {
		reached.HTTP, err = client.Trusting(c.Server.TLSCertificate, c.Server.TLSKey)
	}
	return reached, err
}
