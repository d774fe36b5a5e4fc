"""The page of `distilcse export --web`: one file of HTML, with its script."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{student}}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
  input { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; }
  li { display: flex; gap: 1rem; padding: .2rem 0; }
  li b { font-variant-numeric: tabular-nums; }
  ol { padding: 0; }
  #state { color: #666; }
</style>
<h1>{{student}}</h1>
<p id="state">loading the model …</p>
<input id="query" placeholder="a sentence to search for" aria-label="a sentence to search for" disabled>
<ol id="results"></ol>
<script type="module">
import * as ort from "./vendor/ort.wasm.min.mjs";
import { Tokenizer } from "./vendor/tokenizers.min.mjs";

ort.env.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
const json = async (name) => (await fetch(name)).json();
const at = (id) => document.getElementById(id);

// as the command line does it: at most maxLength tokens, of which the special ones stay
function ids(tokenizer, text, maxLength) {
  const whole = tokenizer.encode(text).ids;
  if (whole.length <= maxLength) return whole;
  const plain = tokenizer.encode(text, { add_special_tokens: false }).ids;
  const numSpecial = whole.length - plain.length;
  let first = 0;
  while (first < numSpecial && plain.some((id, i) => id !== whole[first + i])) first += 1;
  return [...whole.slice(0, first), ...plain.slice(0, maxLength - numSpecial), ...whole.slice(first + plain.length)];
}

function unit(row) {
  const length = Math.max(Math.hypot(...row), 1e-12);
  return row.map((number) => number / length);
}

async function main() {
  const [about, model, config] = await Promise.all(
    ["student.json", "tokenizer.json", "tokenizer_config.json"].map(json));
  const tokenizer = new Tokenizer(model, config);
  const session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  async function embed(text) {
    const row = ids(tokenizer, about.prompt + text, about.max_length);
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, row.length]);
    const all = { input_ids: row, attention_mask: row.map(() => 1), token_type_ids: row.map(() => 0) };
    const given = Object.fromEntries(session.inputNames.map((name) => [name, tensor(all[name])]));
    return unit(Array.from((await session.run(given, ["sentence_embedding"])).sentence_embedding.data));
  }
  const rows = [];
  let difference = 0;
  for (const [number, sentence] of about.sentences.entries()) {
    at("state").textContent = `embedding sentence ${number + 1} of ${about.sentences.length}`;
    rows.push(await embed(sentence));
    about.embeddings[number].forEach((value, i) => {
      difference = Math.max(difference, Math.abs(value - rows[number][i]));
    });
  }
  async function search() {
    const query = await embed(at("query").value);
    const scored = rows.map((row, i) => [row.reduce((sum, value, j) => sum + value * query[j], 0), about.sentences[i]]);
    const best = scored.sort((a, b) => b[0] - a[0]).slice(0, 10);
    at("results").replaceChildren(...best.map(([score, sentence]) => {
      const [item, figure] = [document.createElement("li"), document.createElement("b")];
      figure.textContent = score.toFixed(3);
      item.append(figure, sentence);
      return item;
    }));
  }
  at("query").disabled = false;
  at("query").value = new URLSearchParams(location.search).get("q") ?? about.sentences[0];
  let latest = Promise.resolve();
  at("query").addEventListener("input", () => { latest = latest.then(search); });
  await search();
  at("state").textContent = `${rows.length} sentences, embedded here;`
    + ` largest difference from Python's vectors ${difference.toExponential(1)}`;
  document.body.dataset.difference = difference;
}

main().catch((error) => { at("state").textContent = `this page failed: ${error.message ?? error}`; });
</script>
</html>
"""
