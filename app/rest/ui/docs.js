// Swagger UI on this API's OpenAPI document, and a login for it. The tokens stay in memory.
(() => {
  'use strict';

  const scheme = 'bearer'; // as the document calls it
  const early = 30; // seconds before the access token ends
  const again = 3; // seconds after a renewal that failed
  const root = new URL('./', document.baseURI);
  const element = (id) => document.getElementById(id);

  let ui;
  let session; // {access, refresh, timer}, while somebody is logged in

  const say = (text) => { element('login-message').textContent = text; };

  // send returns what the API answers. Without credentials of the browser's own, or it would ask for a password by a
  // dialog of its own, and keep it.
  const send = (method, path, { body, token } = {}) => fetch(new URL(path, root), {
    method,
    credentials: 'omit',
    cache: 'no-store',
    headers: {
      Accept: 'application/json',
      ...(body && { 'Content-Type': 'application/json' }),
      ...(token && { Authorization: `Bearer ${token}` }),
    },
    body: body && JSON.stringify(body),
  });

  const words = (problem) => [problem.title, problem.detail].filter(Boolean).map((s) => s.replace(/\.?$/, '.')).join(' ');

  // ask returns the document that a login or a refresh is answered with. What it throws is for people to read.
  const ask = async (path, body) => {
    let response;
    try {
      response = await send('POST', path, { body });
    } catch {
      throw new Error('The API can’t be reached.');
    }
    const answer = await response.json().catch(() => ({ title: `The answer is no JSON (${response.status})` }));
    if (!response.ok) throw Object.assign(new Error(words(answer)), { code: answer.code });
    return answer;
  };

  const show = (name) => {
    element('login-form').hidden = Boolean(name);
    element('logged-in').hidden = !name;
    element('caller').textContent = name ?? '';
  };

  const forget = () => {
    clearTimeout(session?.timer);
    session = undefined;
    show();
  };

  const hold = (answer) => {
    session = { access: answer.access_token, refresh: answer.refresh_token };
    session.timer = setTimeout(renew, Math.max(answer.expires_in - early, 1) * 1000);
    ui.preauthorizeApiKey(scheme, answer.access_token);
  };

  const renew = async () => {
    const before = session;
    try {
      const answer = await ask('refresh', { refresh_token: before.refresh });
      if (session === before) hold(answer);
    } catch (e) {
      if (session !== before) return;
      if (e.code !== 'invalid-token') { // the refresh token is as good as before
        before.timer = setTimeout(renew, again * 1000);
        return;
      }
      forget();
      ui.authActions.logout([scheme]);
      say(`Your login has ended. ${e.message}`);
    }
  };

  const login = async (event) => {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector('button');
    say('');
    button.disabled = true;
    try {
      const answer = await ask('login', { username: form.username.value, password: form.password.value });
      hold(answer);
      show(form.username.value);
      form.reset();
      element('logout').focus();
    } catch (e) {
      say(e.message);
      form.password.value = '';
      form.password.focus();
    } finally {
      button.disabled = false;
    }
  };

  // end tells the API that the session is over, after Swagger UI has forgotten the token.
  const end = async () => {
    if (!session) return;
    const token = session.access;
    forget();
    say('');
    try {
      const response = await send('DELETE', 'logout', { token });
      if (!response.ok) throw new Error(words(await response.json()));
    } catch (e) {
      say(`This page has forgotten the token, but the API may not have. ${e.message}`);
    }
  };

  // logoutEnds has Swagger UI's own "Logout" end the session too.
  const logoutEnds = {
    statePlugins: { auth: { wrapActions: { logout: (forgetNames) => (names) => {
      const result = forgetNames(names);
      if (names.includes(scheme)) end();
      return result;
    } } } },
  };

  const start = async () => {
    const response = await send('GET', 'openapi.json');
    if (!response.ok) throw new Error(words(await response.json()));
    const spec = await response.json();
    spec.servers = [{ url: root.href.replace(/\/$/, '') }]; // wherever this page was reached
    ui = SwaggerUIBundle({
      spec,
      domNode: element('swagger-ui'),
      presets: [SwaggerUIBundle.presets.apis],
      plugins: [logoutEnds],
      deepLinking: true,
      syntaxHighlight: { theme: 'tomorrow-night' }, // of Swagger UI's the one with the best contrast
      displayRequestDuration: true,
      defaultModelsExpandDepth: 0,
      persistAuthorization: false,
      validatorUrl: null,
      requestInterceptor: (request) => Object.assign(request, { credentials: 'omit' }),
    });
    // Swagger UI scrolls to what a link within the page points at, and leaves the focus where it was.
    document.querySelector('.skip').addEventListener('click', () => element('main').focus());
    element('login-form').addEventListener('submit', login);
    element('logout').addEventListener('click', () => {
      ui.authActions.logout([scheme]);
      element('username').focus();
    });
    element('login-form').querySelector('button').disabled = false;
  };

  start().catch((e) => { element('loading').textContent = `The document of the API can’t be shown. ${e.message}`; });
})();
