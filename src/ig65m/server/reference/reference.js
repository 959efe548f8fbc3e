// Shows openapi.json: a section a route, with its parameters, bodies and answers.

const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
};

const row = (cells, cell) => make("tr", {}, ...cells.map((text) => make(cell, {}, text)));

const table = (names, rows) =>
  rows.length ? make("table", {}, make("thead", {}, row(names, "th")), make("tbody", {}, ...rows.map((cells) => row(cells, "td")))) : null;

const code = (text) => make("code", { textContent: text });

// A schema as a short example of itself: {"id": "string", "clips": "integer"}.
function sketch(schema, all, depth = 0) {
  if (!schema || depth > 6) return "...";
  if (schema.$ref) return sketch(all[schema.$ref.split("/").pop()], all, depth + 1);
  if (schema.anyOf) return schema.anyOf.map((each) => sketch(each, all, depth + 1)).find((each) => each !== "null") ?? "null";
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.prefixItems) return schema.prefixItems.map((each) => sketch(each, all, depth + 1));
  if (schema.type === "array") return [sketch(schema.items, all, depth + 1)];
  if (schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties).map(([name, each]) => [name, sketch(each, all, depth + 1)]));
  }
  return schema.format ?? schema.type ?? "any";
}

const bounds = (schema) => {
  const inner = schema.anyOf?.find((each) => each.type !== "null") ?? schema;
  const words = [inner.type];
  if (inner.minimum !== undefined) words.push(`${inner.minimum} to ${inner.maximum}`);
  if (schema.default !== undefined && schema.default !== null) words.push(`default ${schema.default}`);
  return words.join(", ");
};

function section(path, method, route, all) {
  const parameters = (route.parameters ?? []).map((each) => [
    code(each.name), each.required ? "yes" : "", bounds(each.schema), each.description ?? "",
  ]);
  const bodies = Object.entries(route.requestBody?.content ?? {}).map(([kind, each]) => [code(kind), code(JSON.stringify(sketch(each.schema, all)))]);
  const answers = Object.entries(route.responses).map(([status, each]) => [
    status, each.description, Object.keys(each.content ?? {}).join(", "),
  ]);
  const good = Object.entries(route.responses["200"]?.content ?? {}).find(([kind]) => kind === "application/json");
  return make("details", {},
    make("summary", {}, make("span", { className: method, textContent: method.toUpperCase() }), code(path),
      make("span", { className: "text", textContent: route.description ?? "" })),
    table(["parameter", "needed", "kind", ""], parameters),
    table(["body", ""], bodies),
    good ? make("pre", { textContent: JSON.stringify(sketch(good[1].schema, all), null, 2) }) : null,
    table(["status", "", "kind"], answers));
}

async function main() {
  const place = document.getElementById("routes");
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    const api = await answer.json();
    for (const [path, routes] of Object.entries(api.paths)) {
      for (const [method, route] of Object.entries(routes)) place.append(section(path, method, route, api.components.schemas));
    }
  } catch (error) {
    place.append(make("p", { role: "alert", textContent: `The description cannot be read: ${error.message}` }));
  }
  place.setAttribute("aria-busy", "false");
}

main();
