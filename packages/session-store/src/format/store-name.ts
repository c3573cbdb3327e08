const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/** Whether a text can be the id of a tenant, a session or an artifact: a part of a key that means nothing but itself. */
export function isStoreName(text: string): boolean {
  return NAME.test(text);
}
