# SPDX-License-Identifier: Apache-2.0
"""lm_eval_gf.py with the real gf, on a model of a golden case. Where lm_eval is not installed, with stand-ins for what
it takes from there, and without the tests of lm_eval itself."""
import importlib.util
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import types
import unittest
from array import array
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GF = os.path.join(os.environ.get("GF_BIN_DIR", ROOT / "build/cpu/bin"), "gf")
CASE = json.loads((ROOT / "tests/golden/goldfinch.json").read_text())
VOCAB, LENGTH = CASE["model"]["vocab_size"], CASE["length"]  # of the golden model
WORDS = VOCAB + 256 + 31  # a vocabulary has all single bytes too, and a multiple of 64 tokens


def install_fakes():
    model, registry = types.ModuleType("lm_eval.api.model"), types.ModuleType("lm_eval.api.registry")
    model.LM = object
    registry.register_model = lambda name: lambda kind: kind
    sys.modules.update({"lm_eval": types.ModuleType("lm_eval"), "lm_eval.api": types.ModuleType("lm_eval.api"),
                        "lm_eval.api.model": model, "lm_eval.api.registry": registry})


HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None
needs_lm_eval = unittest.skipUnless(HAS_LM_EVAL, "lm_eval is not installed")
if not HAS_LM_EVAL:
    install_fakes()
sys.path.insert(0, str(ROOT / "python"))
import lm_eval_gf  # noqa: E402
from lm_eval_gf import GoldFinchLM  # noqa: E402

MASK = 2**64 - 1


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def uniform(name, n):
    """The numbers that src/base/random.h gives under this name."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & MASK
    key ^= splitmix64(CASE["seed"])
    return [(splitmix64((key + i) & MASK) >> 11) * 2.0**-52 - 1.0 for i in range(n)]


def golden_rows():
    tokens = [math.floor((u + 1) / 2 * VOCAB) for u in uniform("tokens", CASE["batch"] * (LENGTH + 1))]
    return [tokens[i:i + LENGTH + 1] for i in range(0, len(tokens), LENGTH + 1)]


def text_of(tokens):
    """Each of the model's tokens is two characters, both line ends to str.splitlines(), and one of its own."""
    return "".join("\u2028\x85" + chr(0x4E00 + token) for token in tokens)


def write_vocabulary(path):
    tokens = [(k, repr(text_of([k])), len(text_of([k]).encode())) for k in range(1, VOCAB)]
    tokens += [(VOCAB + byte, repr(bytes([byte])), 1) for byte in range(256)]
    path.write_text("".join(f"{number} {literal} {length}\n" for number, literal, length in tokens), encoding="utf-8")


def write_model(path):
    """The golden case's parameters as a .safetensors; tokens beyond the golden ones have zero rows, and so logit 0."""
    keys = {k: v for k, v in CASE["model"].items() if k != "rope_base"}
    config = {"model": {**keys, "vocab_size": WORDS}}
    if CASE["model"]["rope_base"]:
        config["model"]["rope"] = {"base": CASE["model"]["rope_base"]}
    header, data = {"__metadata__": {"config": json.dumps(config)}}, array("f")
    for p in CASE["params"]:
        shape, n = list(p["shape"]), math.prod(p["shape"])
        begin = 4 * len(data)
        data.extend(p["offset"] + p["slope"] * i + p["scale"] * u for i, u in enumerate(uniform(p["name"], n)))
        if p["name"] in ("emb.weight", "head.weight"):
            data.extend([0.0] * ((WORDS - VOCAB) * shape[1]))
            shape[0] = WORDS
        header[p["name"]] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, 4 * len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data.tobytes())


def requests(*arguments):
    return [types.SimpleNamespace(args=one) for one in arguments]


class LmEvalGf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name).resolve()
        write_vocabulary(cls.folder / "vocab.txt")
        write_model(cls.folder / "model.safetensors")
        subprocess.run([GF, "ckpt", "import", cls.folder / "model.safetensors", cls.folder / "model"], check=True,
                       stdout=subprocess.DEVNULL)
        cls.model = GoldFinchLM(cls.folder / "model", cls.folder / "vocab.txt", gf=GF)
        cls.addClassCleanup(cls.end_scorer)

    @classmethod
    def end_scorer(cls):
        cls.model._scorer.communicate()

    # Scores of all tokens against one whose logit is 0: log-likelihoods of the golden model, which has less tokens.
    def test_log_likelihoods_are_the_golden_ones(self):
        known = [(text_of(row[:i]), text_of([row[i]])) for row in golden_rows() for i in range(1, LENGTH + 1)]
        zero = [(context, "a") for context, _ in known]
        scores = self.model.loglikelihood(requests(*known, *zero))
        losses = [math.log(1 - (WORDS - VOCAB) * math.exp(none)) - score
                  for (score, _), (none, _) in zip(scores[:len(known)], scores[len(known):])]
        # As gf verify golden: a float32 model, some hundred operations deep. The logarithm takes off a digit.
        self.assertAlmostEqual(sum(losses) / len(losses), CASE["forward"]["loss"], delta=1e-5)
        self.assertGreater(max(losses) - min(losses), 1)

        # At the end of the first row, the logits of tokens 0 to 7, of which 0 has no text.
        row = text_of(golden_rows()[0][:LENGTH])
        *last, (none, _) = self.model.loglikelihood(requests(*((row, text_of([k])) for k in range(1, 8)), (row, "a")))
        for (score, _), logit in zip(last, CASE["forward"]["logits_last_8"][1:], strict=True):
            self.assertAlmostEqual(score - none, logit, delta=1e-5 * abs(score))

    def test_a_continuation_is_the_sum_of_its_tokens(self):
        row = golden_rows()[0]
        [(whole, greedy)] = self.model.loglikelihood(requests((text_of(row[:1]), text_of(row[1:]))))
        parts = self.model.loglikelihood(requests(*((text_of(row[:i]), text_of([row[i]])) for i in range(1, len(row)))))
        self.assertAlmostEqual(whole, sum(score for score, _ in parts), delta=1e-3)  # 32 of some 5 each
        self.assertFalse(greedy)

    # "ab" and " b" are tokens here too: which are taken hangs on where a text is cut.
    def test_pairs_are_cut_into_tokens_as_lm_eval_does(self):
        vocabulary = self.folder / "pairs.txt"
        vocabulary.write_text((self.folder / "vocab.txt").read_text(encoding="utf-8") +
                              "".join(f"{WORDS - 31 + i} {text!r} 2\n" for i, text in enumerate(("ab", " b"))),
                              encoding="utf-8")
        model = GoldFinchLM(self.folder / "model", vocabulary, gf=GF)
        pairs = [("x a ", "b"), ("x a", " b"), ("x a", "b"), ("a\n", "\nb"), (" ", "b"), ("", "b"), ("x", "")]
        got = [*model._encode_pairs(pairs)]

        def tokens(text):
            return model._tokenize([text])[0]

        self.assertEqual(got[0], (tokens("x a"), tokens(" b")))
        self.assertEqual(got[1], got[0])
        self.assertEqual(got[2], (tokens("x a"), []))  # "ab" is one token: as there, nothing is left to score
        self.assertEqual(got[3], (tokens("a"), tokens("\n\nb")))
        self.assertEqual(got[4:], [([0], tokens(" b")), ([0], tokens("b")), (tokens("x"), [])])

    @needs_lm_eval
    def test_pairs_are_those_of_lm_eval(self):
        from lm_eval.api.model import TemplateLM

        model, theirs = self.model, types.SimpleNamespace(backend="causal")
        theirs.tok_encode = lambda text, **_: model._tokenize([text])[0]
        pairs = [("Answer: ", "yes"), ("Answer:", " yes"), ("one\n", "\ntwo"), ("a\u2003 ", "\u20ac"), ("x", "y ")]
        self.assertEqual([*model._encode_pairs(pairs)], [TemplateLM._encode_pair(theirs, *pair) for pair in pairs])

    def test_an_empty_document_scores_nothing(self):
        document = text_of(golden_rows()[0][:5])
        [(score, _)] = self.model.loglikelihood(requests(("", document)))
        self.assertEqual(self.model.loglikelihood_rolling(requests(("",), (document,), ("",))), [0.0, score, 0.0])

    # The example in lm_eval's own words for LM.loglikelihood_rolling, and what its functions gave for others.
    def test_windows(self):
        def got(count, length):
            return [*lm_eval_gf.windows([*range(1, count + 1)], length)]

        self.assertEqual(got(10, 4), [([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8]), ([6, 7, 8], [9, 10])])
        self.assertEqual(got(8, 4), [([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8])])
        self.assertEqual(got(5, 4), [([0], [1, 2, 3, 4]), ([1, 2, 3, 4], [5])])
        self.assertEqual(got(4, 4), [([0], [1, 2, 3, 4])])
        self.assertEqual(got(1, 4), [([0], [1])])
        self.assertEqual(got(3, 1), [([0], [1]), ([1], [2]), ([2], [3])])

    @needs_lm_eval
    def test_windows_are_those_of_lm_eval(self):
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        for length in range(1, 8):
            for count in range(1, 30):
                tokens = [*range(1, count + 1)]
                theirs = map(make_disjoint_window, get_rolling_token_windows(tokens, 0, length, 1))
                self.assertEqual([*lm_eval_gf.windows(tokens, length)], [*theirs])

    def limited(self, max_length=None):
        model = GoldFinchLM(self.folder / "model", self.folder / "vocab.txt", gf=GF, max_length=max_length)
        self.addCleanup(lambda: model._scorer and model._scorer.communicate())
        return model

    # What gf score says of token numbers, which nobody cuts.
    def scores_of_tokens(self, *pairs):
        lines = "".join(json.dumps({"context_tokens": a, "continuation_tokens": b}) + "\n" for a, b in pairs)
        done = subprocess.run([GF, "score", "--checkpoint", self.folder / "model", "--vocab",
                               self.folder / "vocab.txt"], input=lines, capture_output=True, text=True, check=True)
        return [json.loads(line)["logprob"] for line in done.stdout.splitlines()]

    # The same requests in batches of other lengths: float32's rounding alone.
    def assertScores(self, got, wanted):
        self.assertEqual(len(got), len(wanted))
        for one, other in zip(got, wanted):
            self.assertAlmostEqual(one, other, delta=1e-5 * abs(other))

    LONG = [k % (VOCAB - 1) + 1 for k in range(3, 3 + 7 * 75, 7)]  # 75 tokens: 32 + 32 + 11

    def test_a_long_document_is_scored_in_windows(self):
        self.assertEqual(self.model.max_length, LENGTH, "the golden model's ctx_len")
        long, short = self.LONG, self.LONG[:5]
        by_hand = [([0], long[:32]), (long[31:32], long[32:64]), (long[42:64], long[64:])]
        parts = self.scores_of_tokens(*by_hand, ([0], short), ([0], long))
        documents = requests((text_of(long),), ("",), (text_of(short),))
        self.assertScores(self.model.loglikelihood_rolling(documents), [sum(parts[:3]), 0, parts[3]])
        self.assertScores(self.limited(0).loglikelihood_rolling(documents), [parts[4], 0, parts[3]])
        self.assertGreater(abs(sum(parts[:3]) - parts[4]), 1e-2, "windows make no difference here")
        [ten] = self.limited("10").loglikelihood_rolling(requests((text_of(long[:25]),)))
        self.assertScores([ten], [sum(self.scores_of_tokens(([0], long[:10]), (long[9:10], long[10:20]),
                                                            (long[14:20], long[20:25])))])

    def test_a_long_context_is_cut_from_the_left(self):
        long, end = self.LONG[:60], self.LONG[60:64]
        wanted = self.scores_of_tokens((long[-29:], end), (long, end), (long[:29], end), ([0], long[:32]))
        asked = requests((text_of(long), text_of(end)), (text_of(long[:29]), text_of(end)), ("", text_of(long[:32])))
        with self.assertLogs(lm_eval_gf.LOG) as log:
            got = [score for score, _ in self.model.loglikelihood(asked)]
        self.assertIn("1 of 3 contexts are cut from the left: max_length is 32", log.output[0])
        self.assertScores(got, [wanted[0], wanted[2], wanted[3]])
        self.assertScores([self.limited(0).loglikelihood(asked)[0][0]], [wanted[1]])
        self.assertGreater(abs(wanted[0] - wanted[1]), 1e-2, "the cut makes no difference here")
        with self.assertRaisesRegex(ValueError, "a continuation has 33 tokens, and max_length is 32"):
            self.model.loglikelihood(requests(("a", text_of(long[:33]))))

    def test_a_long_prompt_is_cut_from_the_left(self):
        long, settings = text_of(self.LONG), {"max_gen_toks": 5}
        free = self.limited(0)
        with self.assertLogs(lm_eval_gf.LOG):
            got = self.model.generate_until(requests((long, settings)))
        self.assertEqual(got, free.generate_until(requests((text_of(self.LONG[-27:]), settings))))
        # The last 27 tokens begin behind the first byte of a character, which is not in the vocabulary.
        text = "\u4dff" * 2 + text_of(self.LONG[-25:])
        with self.assertLogs(lm_eval_gf.LOG):
            self.assertEqual(self.model._cut_prompts([(text, 27), ("a", 27)]), [text_of(self.LONG[-25:]), "a"])
        fits = text_of(self.LONG[-27:])
        self.assertEqual(self.model._cut_prompts([(fits, 27), (long, 0)]), [fits, long])
        self.assertEqual(self.limited(9)._cut_prompts([("", 4)]), [""])
        with self.assertRaisesRegex(ValueError, "max_gen_toks is 32, which leaves no room .*max_length is 32"):
            self.model.generate_until(requests(("a", {"max_gen_toks": 32})))

    def test_bytes_are_cut_too(self):
        byte = GoldFinchLM(self.folder / "model", "byte", gf=GF, max_length=4)
        self.assertEqual(byte._tokenize(["ab", "", "\0\n", "\u00e9"]), [[98, 99], [], [1, 11], [196, 170]])
        with self.assertLogs(lm_eval_gf.LOG):
            self.assertEqual(byte._cut_prompts([("abcd", 3), ("a\u00e9bc", 3)]), ["bcd", "bc"])

    # Imported weights keep the text that whoever made them wrote; others have what gf writes.
    def test_ctx_len_is_found(self):
        script = self.folder / "info"
        for config in ("model:\n    rope:\n      base: 1\n    ctx_len: 48", '{"model": {"n_layer": 6, "ctx_len": 48}}',
                       "model.ctx_len: 48 # tokens", "# was ctx_len: 7\n  model: {ctx_len: 48}"):
            text = f"data\n  config\n  ctx_len: 5\nconfig\n  {config}\n"
            script.write_text(f"#!{sys.executable}\nprint({text!r}, end='')\n")
            script.chmod(0o700)
            self.assertEqual(GoldFinchLM("model", "byte", gf=script).max_length, 48, config)
        script.write_text(f"#!{sys.executable}\nprint('config\\n  model: {{ctx_len: 4_096}}')\n")
        with self.assertRaisesRegex(RuntimeError, "no model.ctx_len in gf ckpt info model; max_length=N says it"):
            GoldFinchLM("model", "byte", gf=script).max_length

    def test_a_max_length_that_is_none_is_refused(self):
        with self.assertRaisesRegex(ValueError, "max_length is -1: "):
            GoldFinchLM("model", "byte", max_length=-1)

    def test_a_bad_question_leaves_no_answers_behind(self):
        questions = [("a", text_of([k])) for k in range(1, 9)]
        right = self.model.loglikelihood(requests(*questions))
        with self.assertRaisesRegex(ValueError, "continuation has no tokens"):
            self.model.loglikelihood(requests(("b", "x"), ("b", ""), ("b", "y"), ("b", "z")))
        self.assertEqual(self.model.loglikelihood(requests(*questions)), right)

    def test_a_process_that_ends_is_told_and_begun_again(self):
        question = requests(("a", "b"))
        right = self.model.loglikelihood(question)
        self.model._scorer.communicate()
        self.assertEqual(self.model.loglikelihood(question), right)
        with self.assertRaisesRegex(RuntimeError, "gf score ended with status 2"):
            GoldFinchLM(self.folder / "nowhere", "byte", gf=GF, max_length=0).loglikelihood(question * 1000)
        with self.assertRaisesRegex(RuntimeError, "gf ckpt info ended with status 2: .*nowhere"):
            GoldFinchLM(self.folder / "nowhere", "byte", gf=GF).loglikelihood(question)

    # Each token that the model knows is full of what str.splitlines() takes for line ends.
    def test_generated_text_is_what_scores_call_greedy(self):
        model = self.limited(0)
        prompts = [text_of(row[:LENGTH]) for row in golden_rows()]
        settings = {"until": ["", "a"], "max_gen_toks": 3, "do_sample": False}
        texts = model.generate_until(requests(*((prompt, settings) for prompt in prompts)))
        for prompt, text in zip(prompts, texts):
            self.assertEqual(text.count("\u2028\x85"), 3)
            [(_, greedy)] = model.loglikelihood(requests((prompt, text)))
            self.assertTrue(greedy)
        first = [text[:3] for text in texts]
        self.assertEqual(model.generate_until(requests((prompts[0], {"until": texts[0][3:6], "max_gen_toks": 3}),
                                                       (prompts[1], {"max_gen_toks": 1}))), first)

    def test_a_failure_of_generate_gives_its_message(self):
        with self.assertRaisesRegex(RuntimeError, "status 2: gf generate: --top-p is 7"):
            self.model.generate_until(requests(("a", {"top_p": 7, "max_gen_toks": 5})))

    # As lm_eval's repeats asks, each request as often as it says, or in calls of its own.
    def test_repeats_are_drawn_apart_and_again_the_same(self):
        settings = {"max_gen_toks": 12, "do_sample": True, "temperature": 1.5}
        same = requests(*[(text_of(golden_rows()[0]), settings)] * 4)

        def texts(**arguments):
            model = GoldFinchLM(self.folder / "model", self.folder / "vocab.txt", gf=GF, **arguments)
            return model.generate_until(same) + model.generate_until(same[:1]) + model.generate_until(same[:1])

        first = texts()
        self.assertEqual(texts(seed=0), first)
        self.assertEqual(len({*first, *texts(seed=1)}), 12, "each is another")

    # What gf would be asked: a stand-in answers with its options.
    def asked(self, *settings):
        script = self.folder / "asked"
        script.write_text(f"#!{sys.executable}\nimport json, sys\n"
                          "for _ in sys.stdin: print(json.dumps({'text': json.dumps(sys.argv[1:])}))\n")
        script.chmod(0o700)
        options = GoldFinchLM("model", "byte", gf=script, max_gen_toks=77, max_length=0).generate_until(
            requests(*(("a", one) for one in settings)))
        return [dict(o[2:].split("=", 1) for o in json.loads(one) if "=" in o) for one in options]

    def test_settings_reach_gf(self):
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        tokens = self.asked(*({name: 5 + i} for i, name in enumerate(names)), dict(zip(names[1:], "234")),
                            {"max_gen_toks": None, "max_tokens": 9}, {})
        self.assertEqual([one["tokens"] for one in tokens], ["5", "6", "7", "8", "2", "9", "77"])
        sampling = {"top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.2, "presence_penalty": -0.5,
                    "frequency_penalty": 0.25}
        [got] = self.asked({**sampling, "num_beams": 1, "until": "--"})
        del got["seed"]
        self.assertEqual(got, {"tokens": "77", "temperature": "0", "stop": "--",
                               **{key.replace("_", "-"): str(value) for key, value in sampling.items()}})

    def test_settings_matter(self):
        prompt = text_of(golden_rows()[0][:5])
        greedy, penalised, short = self.model.generate_until(requests(
            (prompt, {"max_new_tokens": 20}), (prompt, {"max_new_tokens": 20, "frequency_penalty": 50}),
            (prompt, {"max_completion_tokens": 3})))
        self.assertNotEqual(penalised, greedy)
        self.assertTrue(len(short) < len(greedy) and greedy.startswith(short))

    SAMPLED = (({"temperature": 0.5}, 0.5), ({"temperature": 0}, 0), ({}, 0), ({"do_sample": False}, 0),
               ({"do_sample": False, "temperature": 0.7}, 0), ({"do_sample": True, "temperature": 0.7}, 0.7))

    def test_do_sample_and_temperature(self):
        got = [float(one["temperature"]) for one in self.asked(*(settings for settings, _ in self.SAMPLED))]
        self.assertEqual(got, [temperature for _, temperature in self.SAMPLED])
        # A sampler that is told to sample, and no temperature, has its own.
        self.assertEqual(float(self.asked({"do_sample": True})[0]["temperature"]), 1)

    @needs_lm_eval
    def test_settings_mean_what_lm_eval_means(self):
        from lm_eval.models.utils import normalize_gen_kwargs

        for settings, temperature in self.SAMPLED:
            normal = normalize_gen_kwargs(settings)
            self.assertEqual(normal.get("temperature", 0) if normal["do_sample"] else 0, temperature)
        for i in range(len(lm_eval_gf.MAX_TOKENS)):
            settings = {name: 10 + k for k, name in reversed([*enumerate(lm_eval_gf.MAX_TOKENS)][i:])}
            normal = normalize_gen_kwargs(settings)
            self.assertEqual(self.asked(settings)[0]["tokens"], str(normal.pop("max_gen_toks")))
            self.assertLessEqual(set(normal), {"until", "do_sample"}, "a name was not understood")

    def test_a_setting_that_gf_has_not_is_refused(self):
        for settings, message in (({"top_q": 1}, "'top_q'.*known: until, .*max_new_tokens.*frequency_penalty"),
                                  ({"num_beams": 4}, "num_beams is 4")):
            with self.assertRaisesRegex(ValueError, message):
                self.model.generate_until(requests(("a", {}), ("a", settings)))

    # lm_eval itself, on the two tasks of python/lm_eval_example: scores, and eight texts for each document.
    @needs_lm_eval
    def test_an_evaluation(self):
        out = self.folder / "results"
        done = subprocess.run(
            [sys.executable, ROOT / "python/lm_eval_gf.py", "--model", "gf", "--model_args",
             f"checkpoint={self.folder / 'model'},vocab={self.folder / 'vocab.txt'},gf={GF},seed=2", "--include_path",
             "python/lm_eval_example", "--tasks", "gf_example_words,gf_example_endings", "--log_samples",
             "--output_path", out], cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, "HF_HOME": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1"})
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertRegex(done.stdout, r"gf_example_words *\|Yaml *\|none *\| *0\|acc ")
        self.assertRegex(done.stdout, r"gf_example_endings *\|Yaml *\|first *\| *0\|exact_match")
        [samples] = out.rglob("samples_gf_example_endings_*.jsonl")
        documents = [json.loads(line)["resps"][0] for line in samples.read_text(encoding="utf-8").split("\n") if line]
        self.assertEqual([len(texts) for texts in documents], [8] * 8)  # four, with each of two filters
        for texts in documents:
            self.assertGreater(len(set(texts)), 4)

    def test_an_unknown_argument_is_refused(self):
        with self.assertRaisesRegex(TypeError, "vocabulary"):
            GoldFinchLM("model", "byte", vocabulary="other")
        GoldFinchLM("model", "byte", batch_size=1, max_batch_size=None, device="cuda:0")  # lm_eval gives these to all


if __name__ == "__main__":
    unittest.main()
