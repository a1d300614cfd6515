"""What a person does with an image, and what comes of it."""

import json

import cv2
import numpy as np
import pytest
import torch

from usrl.errors import UserError
from usrl.evaluation.methods import open_interactive
from usrl.page.methods import Once, open_learning, open_method, open_network
from usrl.page.sessions import Act, StaleError
from usrl.page.storage import MOST_STEPS, decode_mask
from usrl.session import Marks, Session

BOX = (29.5, 19.5, 49.5, 39.5)
CPU = torch.device("cpu")


def mask_of(work, shape=(60, 80)):
    return decode_mask(work["mask"], shape)


@pytest.fixture
def person(toy, make_images, open_desk):
    return toy.Person(open_desk(make_images(2)), "scan 0")


def test_the_page_shows_what_a_session_of_the_method_answers(toy, make_images, open_desk):
    method = open_interactive("pull", CPU)
    person, session = toy.Person(open_desk(make_images(1), method), "scan 0"), Session(method)
    image = toy.make_image(0)
    answers = [session.start(image, Marks(boxes=(BOX,)))]
    shown = [person.box(*BOX)]
    for point in ((52.0, 30.0), (40.0, 43.5)):
        answers.append(session.correct(Marks(border=(point,))))
        shown.append(person.mark(*point))
    answers.append(session.change(0, Marks(border=((55.0, 31.0),))))
    shown.append(person.act("move", number=0, point=[55.0, 31.0]))
    for answer, work in zip(answers, shown, strict=True):
        np.testing.assert_array_equal(mask_of(work), answer.mask)
    assert len({work["mask"] for work in shown}) == 4


def test_undo_and_redo_show_the_very_masks_that_were_shown(person):
    shown = [person.box(*BOX), person.mark(60, 30), person.mark(10, 10), person.act("unmark", number=0)]
    back = [person.act("undo") for _ in range(4)]
    assert [work["mask"] for work in back] == [shown[2]["mask"], shown[1]["mask"], shown[0]["mask"], None]
    assert not back[-1]["can_undo"]
    with pytest.raises(UserError, match="nothing to undo"):
        person.act("undo")
    assert [person.act("redo")["mask"] for _ in range(4)] == [work["mask"] for work in shown]
    with pytest.raises(UserError, match="nothing to redo"):
        person.act("redo")


def test_a_new_step_forgets_what_was_undone(person):
    person.box(*BOX)
    person.mark(60, 30)
    person.act("undo")
    assert not person.mark(10, 10)["can_redo"]


def test_a_removed_point_leaves_the_others(person):
    person.box(*BOX)
    without = person.mark(60, 30)
    person.mark(10, 10)
    work = person.act("unmark", number=1)
    assert (work["mask"], work["marks"]) == (without["mask"], without["marks"])


def test_after_a_restart_all_is_as_it_was_and_goes_on(toy, make_images, open_desk):
    images, method = make_images(1), open_interactive("pull", CPU)
    person = toy.Person(open_desk(images, method), "scan 0")
    person.box(*BOX)
    person.mark(52, 30)
    person.mark(40, 44)
    before = person.act("undo", seconds=4.5)
    other = toy.Person(open_desk(images, method), "scan 0")
    assert other.view == person.view
    assert (other.view["state"], other.view["seconds"]) == ("begun", 4.5)
    assert other.act("redo")["marks"][1] == {"kind": "border", "x": 40.0, "y": 44.0}
    assert other.act("undo") == before
    again = other.mark(30, 25)
    fresh = toy.Person(open_desk(images, method, out="other"), "scan 0")
    fresh.box(*BOX)
    fresh.mark(52, 30)
    assert fresh.mark(30, 25)["mask"] == again["mask"]


def test_a_second_tab_does_not_overwrite_the_first(toy, person):
    other = toy.Person(person.desk, "scan 0")
    shown = person.box(*BOX)
    with pytest.raises(StaleError):
        other.box(0, 0, 9, 9)
    with pytest.raises(StaleError):
        other.accept(is_empty=True)
    assert toy.Person(person.desk, "scan 0").view["works"]["lesion"] == shown


def test_what_cannot_be_done_changes_nothing(person):
    person.box(*BOX)
    revision = person.view["revision"]
    for verb, details, message in (
        ("box", {"box": [5, 5, 5.5, 30]}, "2 pixels wide and high"),
        ("box", {"box": [1, 2, 3]}, "a box is x0, y0, x1, y1"),
        ("mark", {"kind": "inside", "point": [5, 5]}, "corrected by points on the border, got inside"),
        ("mark", {"kind": "border"}, "a point is x, y"),
        ("move", {"number": 0, "point": [5, 5]}, "there are 0 of them"),
        ("unbox", {"number": 3}, "there are 1 of them"),
        ("mask", {"origin": "network"}, "--network"),
        ("mask", {"origin": "existing"}, "no mask of scan 0"),
    ):
        with pytest.raises(UserError, match=message):
            person.act(verb, **details)
    view = person.desk.view("scan 0")
    assert view["revision"] == revision
    assert len(view["works"]["lesion"]["boxes"]) == 1


def test_points_before_there_is_a_mask_are_refused(person):
    with pytest.raises(UserError, match="nothing to correct yet; draw a box"):
        person.mark(5, 5)


def test_unknown_images_and_structures_get_a_suggestion(person):
    with pytest.raises(UserError, match="did you mean 'scan 1'"):
        person.desk.view("scam 1")
    person.structure = "lesions"
    with pytest.raises(UserError, match="did you mean 'lesion'"):
        person.desk.act("scan 0", Act(revision=0, structure="lesions", verb="clear"))


def test_boxes_and_points_are_kept_within_the_image(person):
    assert person.box(90, 70, -20, 40)["boxes"] == ((-0.5, 40, 79.5, 59.5),)
    assert person.mark(-3, 500)["marks"] == [{"kind": "border", "x": -0.5, "y": 59.5}]


def test_a_box_takes_its_points_along_when_it_goes(person):
    person.box(4.5, 4.5, 19.5, 19.5)
    person.mark(12, 12)
    person.box(*BOX)
    person.mark(52, 30)
    work = person.act("unbox", number=0)
    assert work["boxes"] == (BOX,)
    assert [mark["x"] for mark in work["marks"]] == [52]
    assert person.act("unbox", number=0)["mask"] is None


def test_the_record_says_how_the_mask_came_about(person, tmp_path):
    person.act("box", box=list(BOX), seconds=3.0)
    person.act("mark", kind="border", point=[60, 30], seconds=1.25)
    person.accept(seconds=900.0)
    record = json.loads((tmp_path / "labels" / "masks" / "scan 0.json").read_text())
    mask = cv2.imread(str(tmp_path / "labels" / "masks" / "scan 0.png"), cv2.IMREAD_UNCHANGED)
    assert (record["image"], record["width_px"], record["height_px"]) == ("scan 0.png", 80, 60)
    assert record["version"].startswith("usrl ")
    assert record["seconds"] == pytest.approx(604.2)  # a pause is not work
    lesion = record["structures"]["lesion"]
    assert (lesion["method"], lesion["start"], lesion["value"]) == ("painter", "box", 255)
    assert lesion["boxes"] == [list(BOX)]
    assert lesion["points"] == [{"kind": "border", "x": 60.0, "y": 30.0}]
    assert lesion["area_px"] == (mask == 255).sum() == 400 + 25


def test_an_accepted_image_can_be_changed_and_accepted_again(person, tmp_path):
    path = tmp_path / "labels" / "masks" / "scan 0.png"
    person.box(*BOX)
    assert person.accept()["state"] == "accepted"
    first = path.read_bytes()
    person.mark(10, 10)
    assert person.view["state"] == "changed"
    assert path.read_bytes() == first
    assert person.act("mask", origin="accepted")["size"]["area_px"] == 400
    person.act("undo")
    assert person.accept()["state"] == "accepted"
    assert path.read_bytes() != first


def test_an_accepted_mask_is_shown_when_its_draft_is_gone(toy, make_images, open_desk, tmp_path):
    images = make_images(1)
    person = toy.Person(open_desk(images), "scan 0")
    shown = person.box(*BOX)
    person.accept()
    (tmp_path / "labels" / "drafts" / "scan 0.json").unlink()
    again = toy.Person(open_desk(images), "scan 0")
    assert again.view["works"]["lesion"]["mask"] == shown["mask"]
    np.testing.assert_array_equal(
        mask_of(again.mark(5, 5)), mask_of(shown) | mask_of(again.view["works"]["lesion"])
    )


def test_nothing_is_accepted_by_mistake_and_nothing_here_can_be_undone(person):
    with pytest.raises(UserError, match="nothing is segmented yet"):
        person.accept()
    shown = person.box(*BOX)
    person.accept(is_empty=True)
    assert person.view["works"]["lesion"]["mask"] is None
    assert person.act("undo")["mask"] == shown["mask"]


def test_another_method_goes_on_from_the_mask_that_is_there(toy, make_images, open_desk, tmp_path):
    images = make_images(1)
    person = toy.Person(open_desk(images), "scan 0")
    person.box(*BOX)
    before = person.mark(60, 30)
    clicks = toy.Painter(name="clicks", asks="clicks", reach=1)
    other = toy.Person(open_desk(images, clicks), "scan 0")
    assert other.view["works"]["lesion"] == before
    with pytest.raises(UserError, match="for another method"):
        other.act("unmark", number=0)
    after = other.mark(5, 5, "inside")
    assert mask_of(after).sum() == mask_of(before).sum() + 9
    assert (after["source"], after["marks"]) == ("mask of painter", [{"kind": "inside", "x": 5.0, "y": 5.0}])
    assert other.act("undo") == before | {"can_redo": True}
    other.accept()
    record = json.loads((tmp_path / "labels" / "masks" / "scan 0.json").read_text())
    assert record["structures"]["lesion"]["method"] == "painter"


def test_other_weights_of_the_same_name_do_not_change_what_was_shown(toy, make_images, open_desk):
    images = make_images(1)
    person = toy.Person(open_desk(images, toy.Painter(reach=2)), "scan 0")
    person.box(*BOX)
    before = person.mark(60, 30)
    other = toy.Person(open_desk(images, toy.Painter(reach=4)), "scan 0")
    assert other.desk.moves("scan 0", "lesion") == []
    after = other.mark(5, 5)
    assert mask_of(after).sum() == mask_of(before).sum() + 81
    assert not (mask_of(before) & ~mask_of(after)).any()


def test_an_image_begins_from_a_networks_mask_and_a_box_adds_to_it(toy, make_images, open_desk):
    person = toy.Person(open_desk(make_images(1), network=toy.Darkness()), "scan 0")
    assert person.view["origins"] == ["network"]
    found = person.act("mask", origin="network")
    np.testing.assert_array_equal(mask_of(found), toy.Darkness().segment(toy.make_image(0), None).mask)
    person.mark(60, 30)
    work = person.box(4.5, 4.5, 9.5, 9.5)
    assert (work["source"], len(work["boxes"])) == ("darkness and box", 1)
    assert mask_of(work).sum() == mask_of(found).sum() + 25 + 25
    with pytest.raises(UserError, match="has become part of a mask; undo"):
        person.act("unbox", number=0)


def test_sizes_are_in_millimetres_where_the_pixel_size_is_known(toy, make_images, open_desk):
    person = toy.Person(open_desk(make_images(1), spacing_mm=(0.5, 0.25)), "scan 0")
    size = person.box(9.5, 9.5, 49.5, 29.5)["size"]
    assert person.view["unit"] == "mm"
    assert size["area_mm2"] == 40 * 20 * 0.125
    lesion = size["lesions"][0]
    assert lesion["long_mm"] == pytest.approx(np.hypot(10, 10), abs=0.01)
    assert lesion["axes"][0] in (
        [[9.5, 9.5], [49.5, 29.5]],
        [[49.5, 29.5], [9.5, 9.5]],
        [[49.5, 9.5], [9.5, 29.5]],
    )


def test_a_method_that_segments_once_is_accepted_and_says_what_it_cannot_do(toy, make_images, open_desk):
    method = open_method("contour-ppo", CPU)
    person = toy.Person(open_desk(make_images(1), method), "scan 0")
    told = person.desk.describe()["method"]
    assert (told["asks"], told["takes_boxes"]) == ("nothing", True)
    assert "the method contour-ppo+pull" in told["note"]
    work = person.box(*BOX)
    assert isinstance(method, Once)
    expected = method.segmenter.segment(toy.make_image(0), (BOX,))
    np.testing.assert_array_equal(mask_of(work), expected.mask)
    with pytest.raises(UserError, match="takes no corrections"):
        person.mark(5, 5)
    moves = person.desk.moves("scan 0", "lesion")
    assert len(moves) > 3
    assert moves[0] != moves[-1]
    assert person.accept()["state"] == "accepted"


def test_an_agent_moves_on_from_a_mask_and_an_automatic_method_needs_no_box(toy, make_images, open_desk):
    agent = open_method("contour-ppo", CPU)
    images = make_images(1)
    person = toy.Person(open_desk(images, agent, network=toy.Darkness()), "scan 0")
    found = toy.Darkness().segment(toy.make_image(0), None).mask
    work = person.act("mask", origin="network")
    assert isinstance(agent, Once)
    np.testing.assert_array_equal(mask_of(work), agent.segmenter.refine(toy.make_image(0), found).mask)
    assert len(person.desk.moves("scan 0", "lesion")) > 3
    automatic = toy.Person(open_desk(images, Once(toy.Darkness()), out="other"), "scan 0")
    np.testing.assert_array_equal(mask_of(automatic.act("mask", origin="network")), found)
    with pytest.raises(UserError, match="takes no box; start from its mask"):
        automatic.box(*BOX)


def test_moves_of_contours_are_shown_to_the_last_one(toy, make_images, open_desk):
    person = toy.Person(open_desk(make_images(1), open_interactive("snap", CPU)), "scan 0")
    person.box(*BOX)
    person.mark(52, 30)
    moves = person.desk.moves("scan 0", "lesion")
    assert len(moves) > 2
    assert len(moves[-1][0]) == len(moves[0][0]) > 30
    assert person.desk.moves("scan 0", "lesion") == moves


def test_a_method_that_learns_does_so_from_accepted_masks_and_again_after_a_restart(
    toy, make_images, open_desk
):
    images, pupil = make_images(3), toy.Pupil()
    desk = open_desk(images, pupil)
    for name, side in (("scan 2", 10), ("scan 0", 20)):
        person = toy.Person(desk, name)
        person.box(9.5, 9.5, 9.5 + side, 19.5)
        person.accept()
    person = toy.Person(desk, "scan 1")
    person.box(*BOX)
    assert person.mark(10, 10)["size"]["area_px"] == 400 + 25  # what was accepted counts at once
    assert pupil.seen == [(int(toy.make_image(2).sum()), 100), (int(toy.make_image(0).sum()), 200)]
    again = toy.Pupil()
    assert open_desk(images, again).learn_again() == 2
    assert sorted(again.seen) == sorted(pupil.seen)
    assert open_desk(images, toy.Painter()).learn_again() == 0


def test_what_was_accepted_first_is_learned_from_first(toy, make_images, open_desk, tmp_path):
    images = make_images(3)
    desk = open_desk(images)
    for name in ("scan 0", "scan 1", "scan 2"):
        toy.Person(desk, name).accept(is_empty=True)
    for name, time in (("scan 0", "2026-01-03"), ("scan 1", "2026-01-01"), ("scan 2", "2026-01-02")):
        path = tmp_path / "labels" / "masks" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"accepted": time}))
    pupil = toy.Pupil()
    open_desk(images, pupil).learn_again()
    assert [levels for levels, _ in pupil.seen] == [int(toy.make_image(number).sum()) for number in (1, 2, 0)]


def test_histories_stay_short(person):
    person.box(*BOX)
    for number in range(MOST_STEPS + 5):
        person.mark(number, 30)
    work = person.act("undo")
    assert work["can_undo"]
    assert len(work["marks"]) == MOST_STEPS + 4


def test_names_of_methods_are_explained():
    with pytest.raises(UserError, match="did you mean 'pull'"):
        open_method("pul", CPU)
    with pytest.raises(UserError, match="did you mean 'contour-ppo'"):
        open_method("contour-pp", CPU)
    with pytest.raises(UserError, match="'pul' is neither"):
        open_method("contour-ppo+pul", CPU)
    with pytest.raises(UserError, match="needs boxes itself; name an automatic method"):
        open_network("otsu-box", CPU)
    with pytest.raises(UserError, match="chooses with the target"):
        open_network("threshold-oracle", CPU)
    with pytest.raises(UserError, match="cannot learn; leave --learn out"):
        open_learning("pull", CPU)
    assert open_method("contour-ppo+pull", CPU).asks == "border"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("unet-phantom+otsu", "otsu does neither. .* otsu is a classical method; .* write unet-phantom.pull"),
        ("unet-phantom+probe-bc", "ProbeNavigate-v0 take no corrections; .* agents of .* make no masks"),
        (
            "contour-ppo+contour-ppo",
            "ContourRefine-v0 take no corrections; .* contour-ppo needs boxes itself",
        ),
        ("unet-phantom+unet", "^[^ ]*unet holds a recipe to train and no weights"),
        ("unet-phantom+correct-cb", "^'correct-cb' is neither .* did you mean 'correct-bc'"),
        ("unet-phantom,contour-ppo", "^unet-phantom,contour-ppo: name one method; commas ask"),
        ("unet-phantm+pull", "^'unet-phantm' is neither .* did you mean 'unet-phantom'"),
        ("threshold-oracle+pull", "^threshold-oracle chooses with the target"),
        ("pull:snap", "^pull does not segment: it takes the corrections of a user"),
        ("pull+snap", "^pull does not segment: it takes the corrections of a user"),
        ("unet-phantom:contour-ppo", "unet-phantom is automatic and contour-ppo is prompted"),
    ],
)
def test_what_cannot_be_joined_says_which_part_is_wrong_and_why(spec, told):
    with pytest.raises(UserError, match=told):
        open_method(spec, CPU)


def test_an_ensemble_takes_no_corrections_but_something_may_start_from_it():
    with pytest.raises(UserError, match=r"^runs/a:runs/b: an ensemble takes no .* as in runs/a:runs/b\+pull"):
        open_interactive("runs/a:runs/b", CPU)
    ensemble = "otsu-box:chan-vese"
    assert isinstance(open_method(ensemble, CPU), Once)
    assert open_method(f"{ensemble}+pull", CPU).asks == "border"


def test_a_desk_warms_up_whatever_the_method(toy, make_images, open_desk):
    images = make_images(1)
    for method in (toy.Painter(), toy.Painter(asks="clicks"), Once(toy.Darkness())):
        desk = open_desk(images, method)
        desk.warm_up()
        assert desk.view("scan 0")["state"] == "new"
