"""A prepared TFDS set, written as array_record without TensorFlow."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

_FEATURES = "tensorflow_datasets.core.features."

Split = Sequence[tuple[bytes, int]]  # encoded images with their labels


def write_prepared(
    root: Path,
    name: str,
    splits: Mapping[str, Split],
    *,
    version: str = "1.0.0",
    shape: Sequence[int | None] = (9, 9, 1),
    dtype: str = "uint8",
    label_names: Sequence[str] = ("a", "b"),
    num_classes: int | None = None,
    shards: int = 1,
) -> Path:
    """The folder of set `name` (or NAME/CONFIG) under `root`, as TFDS lays it out."""
    classes = len(label_names) if num_classes is None else num_classes
    features = {"image": _image(shape, dtype), "label": _label(classes)}
    folder = _write(root, name, splits, features, _labelled, version, shards)
    if label_names:
        (folder / "label.labels.txt").write_text("".join(f"{name}\n" for name in label_names))
    return folder


def write_boxed(
    root: Path,
    name: str,
    splits: Mapping[str, Sequence[tuple[bytes, Mapping[str, Any]]]],
    *,
    label_names: Sequence[str] = ("a", "b"),
    objects: str = "objects",
    label: str = "label",
    flag: str = "is_crowd",
    flag_type: str = "bool",
    other_label: str = "",
    form: str | None = "REL_YXYX",
    shards: int = 1,
) -> Path:
    """As `write_prepared`, of images each with bbox [k, 4], label [k] and a flag [k].

    Args:
      other_label: a second class of each object.
      form: of the boxes; None: not said, as older versions of TFDS did not.
    """
    box: dict[str, Any] = {"shape": {"dimensions": ["4"]}, "dtype": "float32"}
    parts = {
        "bbox": {
            "pythonClassName": _FEATURES + "bounding_boxes.BBoxFeature",
            "boundingBox": box | ({"bboxFormat": form} if form else {}),
        },
        label: _label(len(label_names)),
        flag: {
            "pythonClassName": _FEATURES + "scalar.Scalar",
            "tensor": {"shape": {}, "dtype": flag_type, "encoding": "none"},
        },
    }
    parts |= {other_label: _label(3)} if other_label else {}
    sequence = {"feature": _dict(parts), "length": "-1"}
    features = {
        "image": _image((None, None, 3), "uint8"),
        objects: {
            "pythonClassName": _FEATURES + "sequence_feature.Sequence",
            "sequence": sequence,
        },
    }

    def stored(known: Mapping[str, Any]) -> dict[str, tf_feature_pb2.Feature]:
        corners = np.asarray(known["bbox"], float).ravel()
        floats = tf_feature_pb2.FloatList(value=corners.tolist())
        return {
            f"{objects}/bbox": tf_feature_pb2.Feature(float_list=floats),
            f"{objects}/{label}": _integers(known["label"]),
            f"{objects}/{flag}": _integers(known.get("flag", [0] * len(known["label"]))),
            **({f"{objects}/{other_label}": _integers(known["label"])} if other_label else {}),
        }

    folder = _write(root, name, splits, features, stored, "1.0.0", shards)
    names = "".join(f"{name}\n" for name in label_names)
    (folder / f"{objects}-{label}.labels.txt").write_text(names)
    return folder


def _write(
    root: Path,
    name: str,
    splits: Mapping[str, Sequence[tuple[bytes, Any]]],
    features: Mapping[str, Any],
    stored: Callable[[Any], dict[str, tf_feature_pb2.Feature]],
    version: str,
    shards: int,
) -> Path:
    folder = root / name / version
    folder.mkdir(parents=True)
    short, _, config = name.partition("/")
    described = []
    for split, examples in splits.items():
        parts = [examples[shard::shards] for shard in range(shards)]
        for shard, part in enumerate(parts):
            file = f"{short}-{split}.array_record-{shard:05}-of-{shards:05}"
            writer = ArrayRecordWriter(str(folder / file), "group_size:1")
            for image, known in part:
                values = tf_feature_pb2.BytesList(value=[image])
                record = {"image": tf_feature_pb2.Feature(bytes_list=values), **stored(known)}
                example = tf_feature_pb2.Features(feature=record)
                writer.write(tf_example_pb2.Example(features=example).SerializeToString())
            writer.close()
        described.append(
            {
                "name": split,
                "shardLengths": [str(len(part)) for part in parts],
                "numBytes": str(sum(len(image) for image, _ in examples)),
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    about = {"name": short, "version": version, "fileFormat": "array_record", "splits": described}
    about |= {"configName": config} if config else {}
    (folder / "dataset_info.json").write_text(json.dumps(about))
    (folder / "features.json").write_text(json.dumps(_dict(features)))
    return folder


def _dict(features: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": _FEATURES + "features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def _image(shape: Sequence[int | None], dtype: str) -> dict[str, Any]:
    return {
        "pythonClassName": _FEATURES + "image_feature.Image",
        "image": {
            "shape": {"dimensions": [str(-1 if n is None else n) for n in shape]},
            "dtype": dtype,
        },
    }


def _label(classes: int) -> dict[str, Any]:
    return {
        "pythonClassName": _FEATURES + "class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(classes)} if classes else {},
    }


def _labelled(label: int) -> dict[str, tf_feature_pb2.Feature]:
    return {"label": _integers([label])}


def _integers(values: Sequence[int]) -> tf_feature_pb2.Feature:
    return tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=values))
