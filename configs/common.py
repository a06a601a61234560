"""Every config key, once, with what it means. The other files override values; none adds a key.

What has parameters is written as a call with literal values: 'dsq(k=6.5)', 'sgd(momentum=0.9)'.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The defaults of every experiment."""
    config = ml_collections.ConfigDict()

    config.name = 'common'  # of the experiment; runs go to runs/<name>/<timestamp>
    config.seed = 0  # initial weights and the order of the data

    # Data.

    # Images, FILE.npz or folder:DIR for some of your own, and texts, text:FILE for one of your own (UTF-8).
    config.dataset = 'digits'  # digits, mnist, fashion_mnist, cifar10, imagenet2012, synthetic, tiny_shakespeare
    config.data_dir = ''  # where tensorflow-datasets keeps its data; '': its own default
    config.batch_size = 100  # examples an update (images, or windows of a text), over all devices
    config.image_size = 224  # pixels a side, of imagenet2012, and of a folder whose images are larger or differ in size
    config.context = 64  # tokens, which are bytes, that a model of language reads at once
    config.max_validation_examples = -1  # so many of them, evenly spread; -1: all
    config.corrupt_images = 'refuse'  # or, of imagenet2012, 'skip': warn, train on another image, validate without it

    # Model and quantization.

    # A Flax module, in the catalogue or in a file of yours, FILE.py:Model(x=3). resnet50 is for 224x224 pixels,
    # resnet50(small_images=True) for 32x32, as the other ResNets are.
    # transformer(layers=4, width=128, heads=4, dropout=0.0) is for texts; 'block*/kernel' are its inner kernels.
    config.model = 'convnet'  # convnet, transformer; resnet8 resnet20 resnet32 resnet44 resnet56 resnet110 resnet50
    # In full precision estimator, bits, range and activation_bits are not used, and there are no twins.
    config.quantized = 'conv'  # conv kernels; 'all': dense too; 'none': full precision; or of paths, 'block*/kernel'
    config.compute_dtype = 'float32'  # float32 | bfloat16; weights, quantizer and codes are always float32
    config.sync_batch_norm = True  # batch statistics over all devices, or each device its own
    # Of a run the reference's weights; a file has the names and the layout of PyTorch, as torchvision's resnet50 has.
    config.init_from = ''  # weights to start from: workdir of a run, or FILE.safetensors for a ResNet; '': from scratch
    config.init_map = ''  # an estimator: start from M(w0), its M, as the recipe of `experiments.explain` asks of STE
    config.quantizer = 'uniform'  # of `bits`; ternary; int2..int8, in which 0 is a value; e2m1, the 15 values of FP4
    config.bits = 2  # of the quantized kernels under quantizer=uniform, 1..8
    # R, the outermost value, from the weights of a layer.
    config.range = 'he_uniform'  # he_uniform, max_abs, channel_max_abs, mean_abs, or of blocks: block_max_abs(size=32)
    # 'fixed': of the initial weights; 'dynamic': of the weights at every step; 'learned': LSQ, which trains the step
    # size D beside w; 'learned_u': beside u = w/D, which is what is stored and trained, and what decays.
    config.range_policy = 'fixed'
    # Gradients outside [-R, R]: clip, pass, trust(T=0.5), as far as T outermost step sizes; '': the estimator's own.
    config.clip_rule = ''

    # The inputs of the layers whose kernels are quantized; one scale a token (dense) or an example (convolutions).
    config.activation_bits = 0  # of them, 2..8; 0: they are not quantized
    config.activation_estimator = 'ste'  # as estimator, of every run, but of the twin ste_activations, which has ste

    # The estimator under study.

    config.estimator = 'dsq'  # qat/slopes.py, or 'my_file.py:my_slope(x=3)'
    config.placement = 'gradient'  # the slope multiplies the gradient, or the optimizer's 'update'

    # Optimizer.

    config.optimizer = 'sgd(momentum=0.9)'  # qat/optimizers.py
    config.learning_rate = 0.01  # at its peak: linear warm-up, then cosine to 0 over the steps of the run
    config.learning_rate_images = -1  # learning_rate is for a batch of so many and scales with batch_size; -1: as it is
    config.kernel_learning_rate_factor = 1.0  # on the learning rate of the quantized kernels; convert sets it to alpha
    config.weight_decay = 0.0  # coupled for sgd, signsgd, adam, rmsprop; decoupled for sgdw, adamw, lion, muon
    config.decayed = 'all'  # what decays; 'matrices': weights of two axes or more; or a pattern of paths, '*/kernel'
    config.clip_norm = 0.0  # what the global norm of the gradients is clipped to, before weight decay; 0: not clipped
    config.pull_back = ''  # an estimator: decay and clip_norm are of its weights, as the recipe of explain asks of STE
    config.warmup_fraction = 0.02  # of the steps

    # Length.

    config.num_epochs = 1  # passes over the data
    config.steps_per_epoch = -1  # updates until an evaluation may come; -1: all the data
    config.max_steps = -1  # the run ends there, its schedule with it; -1: no limit

    # Scaling learning rate down and epochs up together is the theorem's limit.
    config.learning_rate_scale = 1.0  # multiplies learning_rate
    config.epochs_scale = 1.0  # multiplies num_epochs

    # In the limit: the run again at 1/2, 1/4, ... of its learning rate over 2, 4, ... times the steps; 1: only itself.
    config.ladder = 1  # rungs
    config.ladder_seeds = 5  # runs at each

    # What the reference is compared with: ste, naive_ste, map_ste, jitter, reshuffle, self; ste_activations.
    config.twins = 'ste,naive_ste,jitter,self'
    config.track_change_points = True  # 19 bytes a quantized weight and run

    # Several processes: off | auto (TPU slices, Slurm) | HOST:PORT,COUNT,INDEX of process 0, all and this one
    config.distributed = 'off'

    # When to look and when to save.

    config.eval_every_epochs = 1  # evaluations, each a line of metrics.jsonl; also before the first step
    config.checkpoint_every_steps = 1000  # a run that is killed goes on from the last one
    return config
