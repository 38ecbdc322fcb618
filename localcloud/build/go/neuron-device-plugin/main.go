// Offers a node's Neuron chips to kubelet, under the names that AWS's device plug-in gives them. It is told of them by
// files, one a chip, that hold how many cores the chip has; nothing is behind them, so containers are given nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	chipFiles = "/run/neuron/neuron*"
	chip      = "aws.amazon.com/neuron"
	core      = "aws.amazon.com/neuroncore"
	// Between two attempts, and so about how long a new kubelet is without its chips.
	pause = 500 * time.Millisecond
	// How long kubelet may take to answer, and then to ask for the devices: it does both at once.
	patience = 5 * time.Second
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	found, err := devices(chipFiles)
	if err != nil {
		log.Fatal(err)
	}
	var offers sync.WaitGroup
	for name, all := range found {
		offers.Add(1)
		go func() {
			defer offers.Done()
			keepOffering(ctx, api.DevicePluginPath, name, all)
		}()
	}
	offers.Wait()
}

// devices returns the devices of both resources, all healthy.
func devices(pattern string) (map[string][]*api.Device, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no %s, hence no chip: this belongs on nodes that have some", pattern)
	}
	found := map[string][]*api.Device{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		cores, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("%s does not hold a number of cores: %w", file, err)
		}
		name := filepath.Base(file)
		found[chip] = append(found[chip], &api.Device{ID: name, Health: api.Healthy})
		for number := range cores {
			found[core] = append(found[core], &api.Device{ID: fmt.Sprintf("%s-core%d", name, number), Health: api.Healthy})
		}
	}
	return found, nil
}

// keepOffering offers the devices to one kubelet after the other, until ctx ends.
func keepOffering(ctx context.Context, folder, name string, all []*api.Device) {
	said := ""
	for ctx.Err() == nil {
		err := offer(ctx, folder, name, all)
		// The same error again is nothing new: kubelet may be away for long.
		if now := fmt.Sprint(err); now != said && ctx.Err() == nil {
			log.Printf("%s: %v; trying again", name, err)
			said = now
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// offer registers the devices with the kubelet of the folder, and returns when that one does not listen any more.
//
// A kubelet that starts removes the sockets of all plug-ins, so each time the socket is made anew.
func offer(ctx context.Context, folder, name string, all []*api.Device) error {
	socket := path.Base(name) + ".sock"
	listener, err := listen(filepath.Join(folder, socket))
	if err != nil {
		return err
	}
	plugin := &plugin{devices: all, began: make(chan struct{}), ended: make(chan struct{})}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, plugin)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	if err := register(ctx, filepath.Join(folder, path.Base(api.KubeletSocket)), socket, name); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return errors.New("kubelet did not ask for the devices")
	case <-plugin.began:
		log.Printf("%s: kubelet knows of %d", name, len(all))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-plugin.ended:
		return errors.New("kubelet has hung up")
	}
}

func listen(socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	// The file may be another's by then: of a pod that took the place of this one.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	return listener, nil
}

func register(ctx context.Context, kubelet, socket, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: socket, ResourceName: name}
	_, err = api.NewRegistrationClient(connection).Register(ctx, request)
	return err
}

// plugin is what one kubelet talks to about one resource.
type plugin struct {
	api.UnimplementedDevicePluginServer
	devices      []*api.Device
	asked        sync.Once
	began, ended chan struct{}
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch tells the devices once: none of them ever comes, goes or ails.
func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	if err := stream.Send(&api.ListAndWatchResponse{Devices: p.devices}); err != nil {
		return err
	}
	p.asked.Do(func() {
		close(p.began)
		defer close(p.ended)
		<-stream.Context().Done()
	})
	return nil
}

// Allocate gives the containers nothing: there is no device file, and whoever runs on the CPU needs no variable.
func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for range request.ContainerRequests {
		answer.ContainerResponses = append(answer.ContainerResponses, &api.ContainerAllocateResponse{})
	}
	return answer, nil
}
