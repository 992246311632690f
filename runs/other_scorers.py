"""Answers from a grammar of quirks, scored by lmms-eval and by `qtinyllava eval`: every number must be the same.

    other_scorers.py QTINYLLAVA DIR [SEED]

DIR gets folders in the official layouts and files of answers. lmms-eval is imported without its heavy dependencies, of which
its scoring functions use none.
"""
import ast, base64, importlib, json, os, random, string, subprocess, sys, types
from pathlib import Path

COUNT = 500


def stub(name, **fields):
    module = types.ModuleType(name)
    for field, value in fields.items():
        setattr(module, field, value)
    sys.modules[name] = module
    return module


class Quiet:
    def __getattr__(self, _):
        return lambda *a, **k: None


def heavy():
    """Stands in for what is imported and not used."""
    stub("loguru", logger=Quiet())
    stub("datasets", Dataset=object, load_dataset=None)
    stub("tqdm", tqdm=lambda x: x)
    stub("lmms_eval.verifiers", VerificationPipeline=object)
    stub("lmms_eval.verifiers.openai", OpenAIVerifier=object)
    stub("lmms_eval.tasks._task_utils.file_utils", generate_submission_file=lambda *a, **k: "/dev/null")


def tasks():
    # The package's own __init__ loads everything; only paths are needed.
    import importlib.util
    root = Path(importlib.util.find_spec("lmms_eval").submodule_search_locations[0])
    for name in ["lmms_eval", "lmms_eval.tasks", "lmms_eval.tasks._task_utils", "lmms_eval.tasks.mmmu", "lmms_eval.tasks.mmbench"]:
        stub(name).__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    heavy()
    def load(name):
        parts = name.split(".")
        path = root.joinpath(*parts[1:]).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    load("lmms_eval.tasks._task_utils.vqa_eval_metric")
    load("lmms_eval.tasks._task_utils.mmmu_mcq_utils")
    stub("requests")
    rings = load("lmms_eval.tasks.mmbench.mmbench_evals")
    return {"mmbench": rings} | {name: load(f"lmms_eval.tasks.{name}.utils") for name in ["pope", "mme", "vqav2", "textvqa", "scienceqa", "vizwiz_vqa", "seedbench", "mmmu"]}


def quirky(rng, base):
    """An answer that means `base`, or nearly, in a way a model might write it."""
    text = base
    for _ in range(rng.randint(0, 3)):
        text = rng.choice([
            lambda t: t.upper(), lambda t: t.capitalize(), lambda t: t.lower(), lambda t: t + ".", lambda t: t + "!",
            lambda t: " " + t, lambda t: t + "\n", lambda t: "The answer is " + t + ".", lambda t: "it is " + t,
            lambda t: t + ", I think", lambda t: f"({t})", lambda t: t + "?", lambda t: "a " + t, lambda t: "the " + t,
            lambda t: t.replace("o", "ö"), lambda t: "", lambda t: t + " 1,000", lambda t: t + " dont",
            lambda t: "two " + t, lambda t: t + "'s", lambda t: "\u00a0" + t, lambda t: t + " 3.50", lambda t: t + ";",
            lambda t: "\t" + t, lambda t: t + "…", lambda t: "“" + t + "”", lambda t: "not " + t, lambda t: t + ". " + t,
            lambda t: t + ")", lambda t: "Answer: " + t, lambda t: t + " ٣", lambda t: "none of " + t, lambda t: t[:1],
        ])(text)
    return text


def same(what, ours, theirs, within=1e-9):
    print(f"{what:32} {ours:.6f} {theirs:.6f}")
    if abs(ours - theirs) > within:
        sys.exit(f"{what}: {ours} here, {theirs} in lmms-eval")


class Trial:
    def __init__(self, program, dir, seed):
        self.program, self.dir, self.rng = program, Path(dir), random.Random(seed)
        self.tasks = tasks()

    def folder(self, name):
        path = self.dir / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def score(self, name, answers):
        folder, file, out = self.dir / name, self.dir / f"{name}.jsonl", self.dir / f"{name}.json"
        file.write_text("".join(json.dumps({"question_id": q, "text": t}) + "\n" for q, t in answers))
        subprocess.run([self.program, "eval", "--data", folder, "--score", file, "--json", out], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        scores = json.loads(out.read_text())
        (form,) = scores["details"]
        details = scores["details"][form]
        # Where all programs agree there is one number only.
        return scores, details, details.get("conventions", {}).get("lmms-eval")

    def pope(self):
        coco = self.folder("pope/coco")
        entries, results, answers = [], [], []
        for i in range(COUNT):
            label = self.rng.choice(["yes", "no"])
            entries.append({"question_id": i, "image": "a.jpg", "text": "Is there?", "label": label})
            said = quirky(self.rng, self.rng.choice(["yes", "no"]))
            answers.append((f"pope/random/{i}", said))
            results.append(self.tasks["pope"].pope_process_results({"answer": label, "question_id": i}, [said])["pope_accuracy"])
        (coco / "coco_pope_random.json").write_text("".join(json.dumps(e) + "\n" for e in entries))
        scores, _, ours = self.score("pope", answers)
        theirs = 100 * self.tasks["pope"].pope_aggregate_accuracy(results)
        same("POPE", scores["pope"] if ours is None else ours, theirs)

    def mme(self):
        task = self.folder("mme/MME_Benchmark_release_version/count")
        results, answers = [], []
        for i in range(COUNT // 2):
            lines = []
            for truth in ["Yes", "No"]:
                lines.append(f"Is it {truth}? Please answer yes or no.\t{truth}")
                said = quirky(self.rng, self.rng.choice(["yes", "no", "y", "n"]))
                answers.append((f"mme/count/{i}/{len(lines)}", said))
                doc = {"answer": truth, "question_id": i, "category": "count"}
                results.append(self.tasks["mme"].mme_process_results(doc, [said])["mme_perception_score"])
            (task / f"{i}.txt").write_text("\n".join(lines))
        _, details, ours = self.score("mme", answers)
        same("MME", details["perception"] if ours is None else ours, self.tasks["mme"].mme_aggregate_results(results), 1e-6)

    def people(self, base):
        all = [self.rng.choice([base, base, base.upper(), base + ".", "the " + base, quirky(self.rng, base)]) for _ in range(10)]
        return [base] * 10 if self.rng.random() < 0.3 else all

    def vqav2(self):
        folder = self.folder("vqav2")
        self.folder("vqav2/val2014")
        questions, annotations, total, answers = [], [], 0, []
        for i in range(COUNT):
            base = self.rng.choice(["red bus", "2", "yes", "dont know", "1,000", "it's", "Nike"])
            people, said = self.people(base), quirky(self.rng, base)
            questions.append({"image_id": 1, "question": "What?", "question_id": i})
            listed = [{"answer": p, "answer_id": k, "answer_confidence": "yes"} for k, p in enumerate(people)]
            annotations.append({"question_id": i, "image_id": 1, "question_type": "what", "answer_type": "other",
                                "multiple_choice_answer": base, "answers": listed})
            answers.append((f"vqa/{i}", said))
            doc = {"answers": json.loads(json.dumps(listed)), "question_id": i}
            total += self.tasks["vqav2"].vqav2_process_results(doc, [said])["exact_match"]
        (folder / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": questions}))
        (folder / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": annotations}))
        scores, _, ours = self.score("vqav2", answers)
        same("VQAv2", scores["vqa"] if ours is None else ours, 100 * total / COUNT)

    def textvqa(self):
        folder = self.folder("textvqa")
        data, total, answers = [], 0, []
        for i in range(COUNT):
            base = self.rng.choice(["dakota", "24", "stop", "joe's diner", "10:10", "www.example.com", "dont panic"])
            people, said = self.people(base), quirky(self.rng, base)
            data.append({"question": f"What is {i}?", "image_id": f"{i}", "question_id": i, "answers": people})
            answers.append((f"textvqa/{i}", said))
            total += self.tasks["textvqa"].textvqa_process_results({"answers": list(people), "question_id": i}, [said])["exact_match"]
        (folder / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": data}))
        scores, _, _ = self.score("textvqa", answers)
        same("TextVQA", scores["textvqa"], 100 * total / COUNT)

    def gqa(self):
        folder = self.folder("gqa")
        questions, right, answers = {}, 0, []
        drop = str.maketrans("", "", string.punctuation)
        for i in range(COUNT):
            base = self.rng.choice(["yes", "no", "left", "fire hydrant", "t-shirt"])
            said = quirky(self.rng, base)
            questions[str(i)] = {"question": "What is it?", "imageId": "1", "isBalanced": True, "answer": base,
                                 "types": {"structural": "query", "semantic": "obj"}}
            answers.append((f"gqa/{i}", said))
            # What the metric `exact_match` does with ignore_case and ignore_punctuation.
            right += said.lower().translate(drop) == base.lower().translate(drop)
        (folder / "testdev_balanced_questions.json").write_text(json.dumps(questions))
        scores, _, ours = self.score("gqa", answers)
        same("GQA", scores["gqa"] if ours is None else ours, 100 * right / COUNT)

    def scienceqa(self):
        folder = self.folder("scienceqa")
        problems, total, answers = {}, 0, []
        for i in range(COUNT):
            choices = ["iron", "salt", "a river", "C. gold", "air"][: self.rng.randint(2, 5)]
            answer = self.rng.randrange(len(choices))
            letter = self.rng.choice("ABCDE")
            said = quirky(self.rng, self.rng.choice([letter, letter.lower(), f"{letter}. {choices[answer]}", f"{letter}."]))
            doc = {"question": "Which?", "choices": choices, "answer": answer, "hint": "", "image": "image.png",
                   "grade": "grade3", "subject": "natural science"}
            problems[str(i)] = doc
            answers.append((f"scienceqa/{i}", said))
            total += self.tasks["scienceqa"].sqa_process_results(doc, [said])["exact_match"]
        (folder / "problems.json").write_text(json.dumps(problems))
        (folder / "pid_splits.json").write_text(json.dumps({"test": list(problems)}))
        scores, _, ours = self.score("scienceqa", answers)
        same("ScienceQA", scores["scienceqa"] if ours is None else ours, 100 * total / COUNT)

    def vizwiz(self):
        folder = self.folder("vizwiz")
        entries, total, answers = [], 0, []
        for i in range(COUNT):
            base = self.rng.choice(["unanswerable", "coke", "dr pepper", "7", "yes", "it's blue"])
            people, said = self.people(base), quirky(self.rng, base)
            image = f"VizWiz_val_{i:08}.jpg"
            entries.append({"image": image, "question": "What is it?", "answers": [{"answer": p} for p in people]})
            answers.append((f"vizwiz/{image}", said))
            total += self.tasks["vizwiz_vqa"].vizwiz_vqa_process_results({"answers": list(people), "question_id": i}, [said])["exact_match"]
        (folder / "val.json").write_text(json.dumps(entries))
        scores, _, _ = self.score("vizwiz", answers)
        same("VizWiz", scores["vizwiz"], 100 * total / COUNT)

    def seedbench(self):
        folder = self.folder("seedbench")
        questions, results, answers = [], [], []
        for i in range(COUNT):
            letter = self.rng.choice("ABCD")
            said = quirky(self.rng, self.rng.choice([letter, letter.lower(), f"{letter}. x", f"({letter})", "Because"]))
            doc = {"question": "?", "answer": letter, "data_id": "a", "data_type": "image", "question_id": str(i), "question_type_id": 1,
                   **{f"choice_{c}": c for c in "abcd"}}
            questions.append(doc)
            answers.append((f"seedbench/{i}", said))
            results.append(self.tasks["seedbench"].seed_process_result(doc, [said])["seed_image"])
        (folder / "SEED-Bench.json").write_text(json.dumps({"questions": questions}))
        scores, _, _ = self.score("seedbench", answers)
        same("SEED-Bench", scores["seedbench"], 100 * self.tasks["seedbench"].seed_aggregation_result(results))

    def mmbench(self):
        """In circles; where lmms-eval would ask a judge, an answer is wrong."""
        folder = self.folder("mmbench")
        picture = base64.b64encode(bytes(60)).decode()
        names = ["a cat", "dog", "red", "hotdog stand", "Two", "left", "1,000", "b", "not a fox", "the sky"]
        columns = ["index", "question", "hint", *"ABCD", "answer", "category", "image", "l2-category"]
        rows, answers = [], []
        for i in range(COUNT // 4):
            choices = self.rng.sample(names, self.rng.randint(2, 4))
            right = self.rng.randrange(len(choices))
            # Mostly right in all rotations, so that circles close.
            sure = self.rng.random() < 0.5
            for step in range(len(choices)):
                turned = choices[step:] + choices[:step]
                letter = "ABCD"[turned.index(choices[right])]
                meant = letter if self.rng.random() < 0.6 else choices[right]
                if not sure:
                    meant = self.rng.choice([meant, self.rng.choice("ABCDE"), self.rng.choice(names)])
                said = meant if sure and self.rng.random() < 0.8 else quirky(self.rng, meant)
                row = {"index": i + step * 10**6, "question": "What?", "hint": None, "answer": letter, "category": f"c{i % 3}",
                       "image": picture, "l2-category": f"l{i % 2}"}
                row |= {c: turned[j] if j < len(turned) else None for j, c in enumerate("ABCD")}
                rows.append(row | {"prediction": said})
                answers.append((f"mmbench/{row['index']}", said))
        lines = ["\t".join(columns)] + ["\t".join("" if row[c] is None else str(row[c]) for c in columns) for row in rows]
        (folder / "mmbench_dev.tsv").write_text("\n".join(lines) + "\n")
        scores, _, _ = self.score("mmbench", answers)
        judge = self.tasks["mmbench"].MMBench_Evaluator()
        judge.extract_answer_from_item = lambda item: ("?", "")
        overall, _, abilities = judge.eval_result(rows, "openai")
        same("MMBench", scores["mmbench"], 100 * overall)
        for name, value in abilities.items():
            same(f"MMBench {name}", scores["details"]["mmbench"]["abilities"][name]["circular"], 100 * value)

    def mmmu(self):
        folder = self.folder("mmmu")
        module = self.tasks["mmmu"]
        # A letter drawn at random is compared as one that is never right.
        sys.modules["lmms_eval.tasks._task_utils.mmmu_mcq_utils"].random.choice = lambda _: "?"
        asked, truths, samples, answers = [], {}, [], []
        for i in range(COUNT):
            id = f"validation_{self.rng.choice(['Art', 'Math', 'Computer_Science'])}_{i}"
            if self.rng.random() < 0.6:
                texts = self.rng.sample(["red clay pot", "glass jar", "17.25", "25", "iron pan", "the aorta"], 4)
                truth = self.rng.choice("ABCD")
                letter = self.rng.choice("ABCD")
                said = quirky(self.rng, self.rng.choice([letter, f"({letter})", f"{letter}) x", f"{letter}. y", texts[0],
                              f"I think it is the {texts[1]}, not the {texts[2]} there", f"{letter} is right, {truth} is not"]))
                doc = {"id": id, "question_type": "multiple-choice", "options": repr(texts), "answer": truth}
                entry = {"all_choices": list("ABCD"), "index2ans": dict(zip("ABCD", texts))}
            else:
                truth = self.rng.choice(["12.5", "3", "mitosis", "1234", "-7", "A", "1/64"])
                said = quirky(self.rng, self.rng.choice([truth, "x = " + truth, "so it is " + truth, "1,234.5", "6.02e23", "1_000"]))
                doc = {"id": id, "question_type": "short-answer", "options": "[]", "answer": truth}
                entry = {}
            asked.append({"id": id, "prompt": "?", "question_type": doc["question_type"], **entry})
            truths[id] = {"question_type": doc["question_type"], "ground_truth": truth}
            answers.append((f"mmmu/{id}", said))
            samples.append(module.mmmu_process_results(doc, [said])["mmmu_acc"])
        (folder / "anns_for_eval.json").write_text(json.dumps(asked))
        (folder / "answer_dict_val.json").write_text(json.dumps(truths))
        _, details, _ = self.score("mmmu", answers)
        judged, _ = module.evaluate_mmmu(samples)
        theirs = 100 * sum(v == "Correct" for v in judged.values()) / COUNT
        same("MMMU, draws wrong", details["lmms_eval"]["without_draws"], theirs)


def main():
    program, dir = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    trial = Trial(program, dir, seed)
    for name in ["pope", "mme", "vqav2", "textvqa", "gqa", "scienceqa", "vizwiz", "seedbench", "mmmu", "mmbench"]:
        getattr(trial, name)()


main()
